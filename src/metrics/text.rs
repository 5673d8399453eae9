//! How the figures are written for those who collect them.

/// A format of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4, which everybody reads, browsers and `promtool check metrics` too.
    Classic,
    /// OpenMetrics 1.0.0, for who asks for it, as Prometheus itself does.
    OpenMetrics,
}

impl Format {
    /// What a request with this `Accept` (empty: without one) is answered with (OpenMetrics 1.0.0, "Protocol Negotiation").
    pub fn accepted_by(accept: &str) -> Self {
        let asked = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let wanted =
                parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            // RFC 9110, section 12.4.2: a weight of 0 means "not acceptable".
            wanted && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        });
        if asked { Self::OpenMetrics } else { Self::Classic }
    }

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// OpenMetrics text as text of this format.
    pub(super) fn write(self, openmetrics: String) -> String {
        match self {
            Self::Classic => classic(&openmetrics),
            Self::OpenMetrics => openmetrics,
        }
    }
}

/// The samples are the same. In OpenMetrics a counter's family is named without the `_total` of its samples, and the end is
/// marked; in the older format the family has the name of its samples, and there is no mark.
fn classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(words) = line.strip_prefix("# HELP ") {
            help = words;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let words = help.strip_prefix(name).unwrap_or_default();
            text.extend(["# HELP ", name, suffix, words, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if line != "# EOF" {
            text.extend([line, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("text/plain, Application/OpenMetrics-Text", Format::OpenMetrics),
            ("", Format::Classic),
            ("*/*", Format::Classic),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Classic),
            ("application/openmetrics-text;q=0, */*", Format::Classic),
            ("application/openmetrics-text2", Format::Classic),
        ] {
            assert_eq!(Format::accepted_by(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let openmetrics = "# HELP a_b Some words.\n# TYPE a_b counter\na_b_total{x=\"y\"} 1\n\
                           # HELP a_c More.\n# TYPE a_c gauge\na_c 2\n# EOF\n";
        let classic = "# HELP a_b_total Some words.\n# TYPE a_b_total counter\na_b_total{x=\"y\"} 1\n\
                       # HELP a_c More.\n# TYPE a_c gauge\na_c 2\n";
        assert_eq!(Format::Classic.write(openmetrics.to_owned()), classic);
        assert_eq!(Format::OpenMetrics.write(openmetrics.to_owned()), openmetrics);
    }
}
