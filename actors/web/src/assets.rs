//! The embedded page: hashed files for ever, the rest with an ETag; brotli or
//! gzip as npm prepared them (`name.br`, `name.gz` beside `name`).

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "ui/dist"]
struct Dist;

/// The file of a path; a path without a dot is a page of the application, which `index.html` is.
pub async fn serve(request: HttpRequest) -> HttpResponse {
    let path = request.path().trim_start_matches('/');
    if path.starts_with("api/") {
        return missing();
    }
    let application = path.is_empty() || !path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    let name = if application { "index.html" } else { path };
    if name.ends_with(".br") || name.ends_with(".gz") {
        return missing();
    }
    let Some(plain) = Dist::get(name) else { return missing() };
    let immutable = name.starts_with("assets/");
    let tag = etag(&plain);
    let cache = if immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    if header_text(&request, header::IF_NONE_MATCH).split(',').any(|one| one.trim() == tag) {
        return HttpResponse::NotModified()
            .insert_header((header::ETAG, tag))
            .insert_header((header::CACHE_CONTROL, cache))
            .finish();
    }
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, content_type(&mime)))
        .insert_header((header::ETAG, tag))
        .insert_header((header::VARY, "accept-encoding"))
        .insert_header((header::CACHE_CONTROL, cache));
    let accepted = header_text(&request, header::ACCEPT_ENCODING);
    for (suffix, encoding) in [("br", "br"), ("gz", "gzip")] {
        if !accepts(accepted, encoding) {
            continue;
        }
        if let Some(packed) = Dist::get(&format!("{name}.{suffix}")) {
            return response.insert_header((header::CONTENT_ENCODING, encoding)).body(packed.data.into_owned());
        }
    }
    response.body(plain.data.into_owned())
}

fn content_type(mime: &mime_guess::mime::Mime) -> String {
    match (mime.type_().as_str(), mime.subtype().as_str()) {
        ("text", _) | (_, "javascript" | "json") => format!("{}; charset=utf-8", mime.essence_str()),
        _ => mime.essence_str().to_owned(),
    }
}

fn missing() -> HttpResponse {
    HttpResponse::NotFound().content_type("text/plain; charset=utf-8").body("there is nothing here\n")
}

fn header_text(request: &HttpRequest, name: header::HeaderName) -> &str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// RFC 9110 12.5.3, without weights but zero.
fn accepts(accepted: &str, encoding: &str) -> bool {
    accepted.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        parts.next() == Some(encoding) && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn etag(file: &EmbeddedFile) -> String {
    let digest: String = file.metadata.sha256_hash().iter().take(12).map(|octet| format!("{octet:02x}")).collect();
    format!("\"{digest}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_negotiated() {
        assert!(accepts("gzip, deflate, br", "br"));
        assert!(!accepts("gzip, br;q=0", "br"));
        assert!(!accepts("", "gzip"));
        assert!(!accepts("xbr", "br"));
    }
}
