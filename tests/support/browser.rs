//! Chromium, for pages as their readers see them. Without it nothing is tested, unless PLIMSOLL_REQUIRE_CHROMIUM is set. With
//! PLIMSOLL_TEST_SCREENSHOTS=DIR the screenshots are kept, to be looked at.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub(crate) fn chromium() -> Option<PathBuf> {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(|name| {
        let paths = std::env::var_os("PATH")?;
        std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|path| path.is_file())
    });
    assert!(found.is_some() || std::env::var_os("PLIMSOLL_REQUIRE_CHROMIUM").is_none(), "there is no Chromium");
    found
}

/// Opens a page for two seconds of its time, and does something with what is there then.
pub(crate) fn browse(browser: &Path, size: (u32, u32), is_dark: bool, what: &[&str], url: &str) -> Vec<u8> {
    let profile = TempDir::new().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
        .args(["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--window-size={},{}", size.0, size.1))
        .arg(format!("--blink-settings=preferredColorScheme={}", if is_dark { 0 } else { 1 }))
        .arg("--virtual-time-budget=2500")
        .args(what)
        .arg(url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Keeps a picture, if they are to be kept.
pub(crate) fn keep(picture: &Path) {
    if let Some(keep) = std::env::var_os("PLIMSOLL_TEST_SCREENSHOTS") {
        std::fs::copy(picture, Path::new(&keep).join(picture.file_name().unwrap())).unwrap();
    }
}
