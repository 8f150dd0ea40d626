//! Path to what serves it. Pure.

use std::sync::Arc;

use crate::config::field::Match;
use crate::config::{Config, PathTemplate, Route, Source};
use crate::params::Params;

/// What serves a path.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// The stream with this index.
    Stream(usize, Params),
    /// `POST` for the stream with this index; the parameters are the stream's.
    Publish(usize, Params),
    /// A path of the stream with this index whose parameter the pattern refuses, and whether it is that for publishing.
    Refused(usize, bool),
    /// Nothing of ours.
    Other,
}

impl Target {
    /// The stream that the path belongs to, and whether it is its path for publishing.
    pub(super) fn place(&self) -> Option<(usize, bool)> {
        match self {
            Self::Stream(index, _) => Some((*index, false)),
            Self::Publish(index, _) => Some((*index, true)),
            Self::Refused(index, publishing) => Some((*index, *publishing)),
            Self::Other => None,
        }
    }

    /// Values of the stream's parameters, where the path has good ones.
    pub(super) fn into_params(self) -> Option<Params> {
        match self {
            Self::Stream(_, params) | Self::Publish(_, params) => Some(params),
            Self::Refused(..) | Self::Other => None,
        }
    }
}

/// Where paths lead.
#[derive(Debug)]
pub(super) struct Router {
    /// Those with fewer parameters first: a literal wins over a parameter.
    templates: Vec<(PathTemplate, Leads)>,
    routes: Vec<Route>,
}

#[derive(Clone, Debug)]
enum Leads {
    ToStream(usize),
    /// With, for each of the stream's parameters, its index in this path's.
    ToPublish(usize, Arc<[usize]>),
}

impl Router {
    pub(super) fn new(config: &Config) -> Self {
        let mut templates = Vec::new();
        for (index, stream) in config.streams.iter().enumerate() {
            templates.push((stream.path.clone(), Leads::ToStream(index)));
            if let Source::Publish(publish) = &stream.source {
                let params = publish.params.as_slice().into();
                templates.push((publish.path.clone(), Leads::ToPublish(index, params)));
            }
        }
        templates.sort_by_key(|(template, _)| template.param_names().len());
        Self {
            templates,
            routes: config.routes.clone(),
        }
    }

    /// What serves `path`, as received.
    pub(super) fn target(&self, path: &str) -> Target {
        let mut refused = Target::Other;
        for (template, leads) in &self.templates {
            match (template.matches(path), leads) {
                (Some(Match::Params(params)), Leads::ToStream(index)) => {
                    return Target::Stream(*index, params);
                }
                (Some(Match::Params(params)), Leads::ToPublish(index, order)) => {
                    let params = order.iter().map(|&at| params.0[at].clone()).collect();
                    return Target::Publish(*index, Params(params));
                }
                (Some(Match::Refused), Leads::ToStream(index)) => {
                    refused = Target::Refused(*index, false);
                }
                (Some(Match::Refused), Leads::ToPublish(index, _)) => {
                    refused = Target::Refused(*index, true);
                }
                (None, _) => {}
            }
        }
        refused
    }

    /// The route that passes `path` through: the longest prefix.
    pub(super) fn route(&self, path: &str) -> Option<&Route> {
        self.routes
            .iter()
            .find(|route| path.starts_with(&route.prefix))
    }
}

/// What makes a path readable in two ways (EDGE P12–P14): such a path is refused, as what one side matches is not what
/// the other side serves.
pub(super) fn ambiguity(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("The path must begin with a slash.");
    }
    if path.contains("//") {
        return Some("The path has an empty segment.");
    }
    if path.contains('\\') {
        return Some("The path has a backslash.");
    }
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Some("The path has a control character or a space.");
    }
    if path
        .split('/')
        .any(|segment| segment == "." || segment == "..")
    {
        return Some("The path has a dot segment.");
    }
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let digits = rest
            .get(at + 1..at + 3)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let escape = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escape {
            None => return Some("The path has an incomplete percent escape."),
            Some(b'/' | b'\\' | 0) => {
                return Some("The path has an escaped slash, backslash or NUL.");
            }
            Some(byte)
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') =>
            {
                return Some("The path has an escaped character that needs no escape.");
            }
            Some(_) => rest = &rest[at + 3..],
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE P12–P14, CONTRACT §6 "Paths".
    #[test]
    fn ambiguous_paths_are_told() {
        for path in [
            "",
            "a",
            "//",
            "/a//b",
            "/a/../b",
            "/a/.",
            "/..",
            "/a\\b",
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/%00",
            "/%2e%2e/x",
            "/%41",
            "/%7E",
            "/%",
            "/%2",
            "/%zz",
            "/a b",
            "/%+1",
        ] {
            assert!(ambiguity(path).is_some(), "{path}");
        }
        for path in [
            "/", "/a/b.c", "/a/b/", "/a;x", "/%20", "/%C3%A9", "/...", "/a%252e",
        ] {
            assert_eq!(ambiguity(path), None, "{path}");
        }
    }
}
