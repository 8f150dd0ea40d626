//! OpenMetrics text to the classic Prometheus text format 0.0.4.

/// The same metrics in the classic format: a counter's metadata bears the name of its series, units and the end mark are gone.
pub fn classic(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(metadata) = line.strip_prefix("# HELP ") {
            help = metadata.split_once(' ');
            continue;
        }
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                text.push_str(&format!("# HELP {name}{suffix} {help}\n"));
            }
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::classic;

    #[test]
    fn counters_bear_the_name_of_their_series() {
        let open = "# HELP a Things.\n# TYPE a counter\n# UNIT a things\na_total{x=\"# EOF\"} 1\n# HELP b B c.\n# TYPE b gauge\nb 2\n# EOF\n";
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"# EOF\"} 1\n# HELP b B c.\n# TYPE b gauge\nb 2\n";
        assert_eq!(classic(open), expected);
    }
}
