//! The pages as a browser gets them.

use super::*;

async fn ask(path: &str, mode: Mode, known: Option<&str>) -> Answer {
    let mut request = Request::get(path);
    if let Some(tag) = known {
        request = request.header("if-none-match", tag);
    }
    answer(&crate::pages_router(mode), request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn each_file_has_its_type_policy_and_tag() {
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/console", "text/html; charset=utf-8"),
        ("/rooms", "text/html; charset=utf-8"),
        ("/client.js", "text/javascript; charset=utf-8"),
        ("/client.d.ts", "text/plain; charset=utf-8"),
        ("/assets/demo.js", "text/javascript; charset=utf-8"),
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/logo.svg", "image/svg+xml"),
        ("/openapi.json", "application/json"),
        ("/asyncapi.json", "application/json"),
    ] {
        let page = ask(path, Mode::Dev, None).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.headers["content-type"], kind, "{path}");
        assert_eq!(page.headers["x-content-type-options"], "nosniff");
        assert_eq!(page.headers["cache-control"], "no-cache");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"));
        let tag = page.headers["etag"].to_str().unwrap();
        let again = ask(path, Mode::Dev, Some(&format!("\"x\", W/{tag}"))).await;
        assert_eq!((again.status, again.text.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path}");
        assert_eq!(again.headers["etag"], tag);
    }
}

#[tokio::test]
async fn every_file_of_the_pages_is_served() {
    let web = concat!(env!("CARGO_MANIFEST_DIR"), "/../../web");
    for entry in std::fs::read_dir(web).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let address = match name.as_str() {
            "index.html" => "/".to_owned(),
            "console.html" => "/console".to_owned(),
            "rooms.html" => "/rooms".to_owned(),
            _ => format!("/assets/{name}"),
        };
        let page = ask(&address, Mode::Dev, None).await;
        assert_eq!(page.status, StatusCode::OK, "{address}");
        assert_eq!(page.text, std::fs::read_to_string(&path).unwrap(), "{address}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    for path in ["/assets/nothing.js", "/assets/index.html", "/assets/..%2fCargo.toml", "/nothing"] {
        assert_eq!(ask(path, Mode::Dev, None).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_cluster_node_only_names_the_service() {
    let page = ask("/", Mode::Serve, None).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("Heliograph") && page.text.contains("/console"));
    assert!(!page.text.contains("<html"));
}
