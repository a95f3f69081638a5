//! Whether a measured value grows over time. Measures nothing itself.

use std::time::Duration;

const SECONDS_PER_HOUR: f64 = 3_600.0;

/// Growth in the second half of these points, by least squares, in units per hour. In the first
/// half a process fills its buffers.
pub(crate) fn per_hour(points: &[(Duration, f64)]) -> f64 {
    let half = &points[points.len() / 2..];
    let [mean_time, mean] = means(half);
    let (mut with_time, mut of_time) = (0.0, 0.0);
    for (time, value) in half {
        let hours = time.as_secs_f64() / SECONDS_PER_HOUR - mean_time;
        with_time += hours * (value - mean);
        of_time += hours * hours;
    }
    if of_time > 0.0 {
        with_time / of_time
    } else {
        0.0
    }
}

/// Like [`per_hour`], but in percent of the mean of the second half.
pub(crate) fn percent_per_hour(points: &[(Duration, f64)]) -> f64 {
    let [_, mean] = means(&points[points.len() / 2..]);
    if mean > 0.0 {
        100.0 * per_hour(points) / mean
    } else {
        0.0
    }
}

/// The means of the times, in hours, and of the values.
fn means(points: &[(Duration, f64)]) -> [f64; 2] {
    let (mut count, mut times, mut values) = (0.0, 0.0, 0.0);
    for (time, value) in points {
        count += 1.0;
        times += time.as_secs_f64() / SECONDS_PER_HOUR;
        values += value;
    }
    if count > 0.0 {
        [times / count, values / count]
    } else {
        [0.0, 0.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_minute(value: impl Fn(f64) -> f64) -> Vec<(Duration, f64)> {
        (0..120_u32)
            .map(|minute| (Duration::from_mins(minute.into()), value(minute.into())))
            .collect()
    }

    #[test]
    fn a_value_that_only_rises_in_the_first_half_does_not_grow() {
        let filling = each_minute(|minute| 1_000.0 * minute.min(59.0));
        assert!(per_hour(&filling).abs() < 1e-6);
        let swinging = each_minute(|minute| if minute % 2.0 < 1.0 { 99.0 } else { 101.0 });
        assert!(percent_per_hour(&swinging).abs() < 0.2);
    }

    #[test]
    fn a_leak_is_found_under_large_swings() {
        // 2 % of 100 per hour, with swings five times as large.
        let leaking = each_minute(|minute| {
            100.0 + minute / 30.0 + if minute % 2.0 < 1.0 { 5.0 } else { -5.0 }
        });
        let percent = percent_per_hour(&leaking);
        assert!((1.0..3.0).contains(&percent), "{percent}");
    }

    #[test]
    fn nothing_and_one_point_do_not_grow() {
        assert!(percent_per_hour(&[]).abs() < 1e-9);
        assert!(percent_per_hour(&[(Duration::from_mins(1), 5.0)]).abs() < 1e-9);
    }
}
