//! Tells the program when it was built: a clock that says an earlier time is wrong. A packager sets `SOURCE_DATE_EPOCH` for builds that
//! can be reproduced.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-changed=build.rs");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let built = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok()).unwrap_or(now);
    println!("cargo:rustc-env=GATEHOUSE_BUILT={built}");
}
