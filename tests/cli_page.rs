//! Proves that the live page works in a real browser: it shows what the status says, in light and dark, and fits a phone and a wide
//! screen. Wants Chromium; without it nothing is tested, unless PLIMSOLL_REQUIRE_CHROMIUM is set. With PLIMSOLL_TEST_SCREENSHOTS=DIR
//! the screenshots are kept, to be looked at.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/service.rs"]
mod service;

use browser::{browse, chromium};
use service::{Service, wait_until};
use tempfile::TempDir;

#[test]
fn the_page_shows_the_status_in_light_and_dark_narrow_and_wide() {
    let Some(browser) = chromium() else { return };
    let dir = TempDir::new().unwrap();
    let mut run =
        Service::start(dir.path(), &["--bars", "bars.csv", "--workers", "2"], &[("PLIMSOLL_SHADOW_COMPONENT", "s")]);
    run.feed(3000);
    wait_until("all are processed", || run.status()["totals"]["processed_live"] == 3000);
    run.told(&["pin", "aggressive", "--for", "1h"]);
    run.feed(3000);
    wait_until("some are shed", || run.status()["totals"]["shed"] == 1000);
    let mut shots = Vec::new();
    for (size, is_dark) in [((1500, 1500), false), ((1500, 1500), true), ((400, 2600), false), ((400, 2600), true)] {
        let scheme = if is_dark { "dark" } else { "light" };
        let text = String::from_utf8(browse(&browser, size, is_dark, &["--dump-dom"], &run.url())).unwrap();
        for said in [
            &format!("data-drawn=\"{scheme}\""),
            "data-fits=\"yes\"",
            "AGGRESSIVE<small>level 3 of 4",
            "Because: pinned by hand",
            "held by hand for another 59 min",
            "shadow thresholds would give NORMAL",
            "<td>shed, tier 3</td><td>1\u{202f}000</td><td>16.7 %</td>",
            "<td>offered</td><td>6\u{202f}000</td>",
            "▲ AGGRESSIVE</td><td class=\"words\">pinned by hand</td>",
            "CIRCUIT_BREAK</text>",
            "5\u{202f}M</text>",
        ] {
            assert!(text.contains(said), "{scheme}, {size:?}: no {said:?} in {text}");
        }
        let workers = text.split("id=\"workers\"").nth(1).unwrap().split("</table>").next().unwrap();
        assert_eq!(workers.matches("<tr>").count(), 3, "a head and two workers: {workers}");
        assert!(text.contains("<div id=\"lost\" role=\"alert\" class=\"\">"), "it has its answers");
        let shot = dir.path().join(format!("{}-{scheme}.png", size.0));
        browse(&browser, size, is_dark, &[&format!("--screenshot={}", shot.display())], &run.url());
        shots.push(std::fs::read(&shot).unwrap());
        browser::keep(&shot);
    }
    assert!(shots.iter().all(|shot| shot.len() > 20_000), "there is something on each");
    run.told(&["reset"]);
    assert!(run.end().status.success());
}
