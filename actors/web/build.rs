//! The embedded page: what npm built in `ui/dist`, or, where nobody has built
//! it yet, one page that says how, so that cargo alone is enough to compile.

use std::path::Path;

const PLACEHOLDER: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>benocs</title>\n\
    <h1>The page is not built</h1>\n<p>Run <code>make ui</code>, then build the program again. \
    The API under <a href=\"/api/v1/openapi.json\">/api/v1</a> works without it.</p>\n</html>\n";

fn main() -> std::io::Result<()> {
    let dist = Path::new("ui/dist");
    let index = dist.join("index.html");
    if !index.exists() {
        std::fs::create_dir_all(dist)?;
        std::fs::write(&index, PLACEHOLDER)?;
    }
    println!("cargo:rerun-if-changed=ui/dist");
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}
