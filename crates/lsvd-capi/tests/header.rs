//! The checked-in header is what the source says.

use std::path::Path;

#[test]
fn the_header_is_current() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in ["default_volume", "volume", "last_error"] {
        builder = builder.with_src(here.join(format!("src/{source}.rs")));
    }
    let mut fresh = Vec::new();
    builder.generate().unwrap().write(&mut fresh);
    let fresh = String::from_utf8(fresh).unwrap();
    let path = here.join("include/lsvd.h");
    if std::env::var_os("LSVD_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == fresh,
        "include/lsvd.h is not what src/ says; write it anew with\n\
         LSVD_UPDATE_HEADER=1 cargo test -p lsvd-capi --test header\n\
         and look at the difference: a released function never changes"
    );
}
