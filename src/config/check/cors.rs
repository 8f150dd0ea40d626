//! `cors`, of the file or of one stream

use http::HeaderName;

use super::super::Cors;
use super::super::field::CorsOrigin;
use super::super::read::{Item, Section};
use super::{all, headers, keys};

pub(super) fn read(item: Item<'_>) -> Option<Cors> {
    let section = item.section(&keys::CORS)?;
    let credentials = section.bool("credentials");
    let origins = origins(&section.get("origins"), credentials);
    let allow_headers = header_names(&section, "allow_headers");
    let expose_headers = header_names(&section, "expose_headers");
    let max_age = section.duration("max_age");
    Some(Cors {
        origins: origins?,
        credentials: credentials?,
        allow_headers: allow_headers?,
        expose_headers: expose_headers?,
        max_age: max_age?,
    })
}

fn origins(item: &Item<'_>, credentials: Option<bool>) -> Option<Vec<CorsOrigin>> {
    let mut origins: Vec<CorsOrigin> = Vec::new();
    let read = all(item.list()?.iter().map(|item| {
        let hint = "write https://app.example, https://*.example.com, \"null\" or \"*\"";
        let origin = item.parsed(hint, |text| {
            CorsOrigin::parse(text).map_err(|why| format!("{} is no origin: {why}", item.shown()))
        })?;
        if origin == CorsOrigin::Any && credentials == Some(true) {
            // EDGE C2: browsers refuse the pair.
            item.problem(
                "`*` together with credentials (list the origins, or write credentials: false)",
            );
        }
        if origins.contains(&origin) {
            item.problem("the origin stands twice (remove one)");
        }
        origins.push(origin);
        Some(())
    }));
    if origins.len() > 1 && origins.contains(&CorsOrigin::Any) {
        item.problem("`*` stands for every origin (write only it, or remove it)");
    }
    read.map(|_| origins)
}

fn header_names(section: &Section<'_>, key: &'static str) -> Option<Vec<HeaderName>> {
    all(section.get(key).list()?.iter().map(headers::name))
}
