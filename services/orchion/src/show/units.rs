//! Times and sizes as people read them.

/// A span of time in its two greatest units: `4s`, `3m 20s`, `2h 5m`, `3d 4h`.
pub(crate) fn span(ms: u64) -> String {
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    if ms < 10_000 {
        return format!("{}.{}s", ms / 1_000, ms % 1_000 / 100);
    }
    let seconds = ms / 1_000;
    let (great, small) = match seconds {
        0..60 => return format!("{seconds}s"),
        60..3_600 => ((seconds / 60, "m"), (seconds % 60, "s")),
        3_600..86_400 => ((seconds / 3_600, "h"), (seconds % 3_600 / 60, "m")),
        _ => ((seconds / 86_400, "d"), (seconds % 86_400 / 3_600, "h")),
    };
    match small.0 {
        0 => format!("{}{}", great.0, great.1),
        rest => format!("{}{} {rest}{}", great.0, great.1, small.1),
    }
}

/// How long ago a moment was, by this machine's clock: for people only.
pub(crate) fn ago(then_ms: u64, now_ms: u64) -> String {
    match now_ms.saturating_sub(then_ms) {
        0..1_000 => "now".to_owned(),
        ms @ 1_000..60_000 => format!("{}s ago", ms / 1_000),
        ms => format!("{} ago", span(ms)),
    }
}

/// A size in binary units: `512 MiB`, `15.6 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = bytes;
    let mut rest = 0;
    while whole >= 1024 && unit < UNITS.len() - 1 {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    let tenth = rest * 10 / 1024;
    if whole >= 100 || tenth == 0 {
        format!("{whole} {}", UNITS[unit])
    } else {
        format!("{whole}.{tenth} {}", UNITS[unit])
    }
}

/// Milliseconds since the Unix epoch, by this machine's clock.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let shown: Vec<String> = [
            0,
            999,
            4_250,
            59_999,
            200_000,
            3_600_000,
            7_500_000,
            273_600_000,
        ]
        .map(span)
        .to_vec();
        assert_eq!(
            shown,
            [
                "0ms", "999ms", "4.2s", "59s", "3m 20s", "1h", "2h 5m", "3d 4h"
            ]
        );
    }

    #[test]
    fn a_clock_that_runs_ahead_is_no_accident() {
        assert_eq!(ago(2_000, 1_000), "now");
        assert_eq!(ago(1_000, 6_500), "5s ago");
    }

    #[test]
    fn sizes_are_short() {
        let shown = [0, 1023, 1024, 512 << 20, 16_748_000_000].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1 KiB", "512 MiB", "15.5 GiB"]);
    }
}
