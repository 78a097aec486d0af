//! `/media`: who may, what comes, in which parts.

use atoll_tests::mesh::Mesh;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use super::{MIB, content, refused, ticket, token};

async fn put(mesh: &Mesh, bytes: Vec<u8>) -> String {
    let url = format!("{}/media?name=a%20b.txt", mesh.target().http());
    let request = Client::new()
        .put(url)
        .bearer_auth(token())
        .header("content-type", "text/plain");
    let response = request.body(bytes).send().await.expect("an answer");
    assert_eq!(response.status(), 201);
    let answer: Value = response.json().await.expect("JSON");
    answer["id"].as_str().expect("a handle").to_owned()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let value = response.headers().get(name).unwrap_or_else(|| panic!("no {name}"));
    value.to_str().expect("text")
}

#[tokio::test]
async fn an_upload_comes_back_whole_and_in_parts_and_is_never_shown_as_a_page() {
    let mesh = Mesh::start().await;
    let bytes = content(MIB + 17);
    let id = put(&mesh, bytes.clone()).await;
    let url = format!("{}/media/{id}", mesh.target().http());
    let client = Client::new();
    let whole = client.get(&url).bearer_auth(token()).send().await.expect("an answer");
    assert_eq!(whole.status(), 200);
    assert_eq!(header(&whole, "content-type"), "text/plain");
    assert_eq!(header(&whole, "x-content-type-options"), "nosniff");
    assert_eq!(
        header(&whole, "content-disposition"),
        "attachment; filename*=UTF-8''a%20b.txt"
    );
    assert_eq!(header(&whole, "etag"), format!("\"{id}\""));
    assert_eq!(whole.content_length(), Some(bytes.len() as u64));
    assert!(whole.bytes().await.expect("a body") == bytes);
    for (range, part, shown) in [
        ("bytes=0-0", &bytes[..1], format!("bytes 0-0/{}", bytes.len())),
        (
            "bytes=1000000-",
            &bytes[1_000_000..],
            format!("bytes 1000000-{}/{}", bytes.len() - 1, bytes.len()),
        ),
        (
            "bytes=-17",
            &bytes[MIB..],
            format!("bytes {MIB}-{}/{}", bytes.len() - 1, bytes.len()),
        ),
    ] {
        let request = client.get(&url).bearer_auth(token()).header("range", range);
        let response = request.send().await.expect("an answer");
        assert_eq!(
            (response.status().as_u16(), header(&response, "content-range")),
            (206, shown.as_str()),
            "{range}"
        );
        assert!(response.bytes().await.expect("a body") == part, "{range}");
    }
    for (name, value, status) in [
        ("range", "bytes=99999999-".to_owned(), 416),
        ("if-none-match", format!("\"{id}\""), 304),
    ] {
        let request = client.get(&url).bearer_auth(token()).header(name, value);
        assert_eq!(request.send().await.expect("an answer").status(), status, "{name}");
    }
    let head = client.head(&url).bearer_auth(token()).send().await.expect("an answer");
    assert_eq!(
        (head.status().as_u16(), header(&head, "content-length")),
        (200, bytes.len().to_string().as_str())
    );
    assert!(head.bytes().await.expect("no body").is_empty());
}

#[tokio::test]
async fn only_operators_with_the_scope_for_it_come_to_blobs() {
    let mesh = Mesh::start().await;
    let id = put(&mesh, b"hello".to_vec()).await;
    let url = format!("{}/media/{id}", mesh.target().http());
    let folder = format!("{}/media", mesh.target().http());
    let client = Client::new();
    assert_eq!(client.get(&url).send().await.expect("an answer").status(), 401);
    for wrong in ["wrong", &"0".repeat(64)] {
        let response = client.get(&url).bearer_auth(wrong).send().await.expect("an answer");
        assert_eq!(response.status(), 401);
    }
    let basic = client
        .get(&url)
        .basic_auth("x", Some(token()))
        .send()
        .await
        .expect("an answer");
    assert_eq!(basic.status(), 401);
    for (shown, status) in [(token(), 200), ("wrong", 401)] {
        let request = client.get(&url).header("X-Gateway-Token", shown);
        assert_eq!(request.send().await.expect("an answer").status(), status);
    }

    let (reader, ticket) = ticket(&mesh, &["operator.read"]).await;
    let read = client.get(&url).bearer_auth(&ticket).send().await.expect("an answer");
    assert_eq!(
        (read.status().as_u16(), read.text().await.expect("text")),
        (200, "hello".to_owned())
    );
    let write = client
        .put(&folder)
        .bearer_auth(&ticket)
        .body("x")
        .send()
        .await
        .expect("an answer");
    assert_eq!(write.status(), 403, "reading is not writing");
    drop(reader);
    refused(&client, &url, &ticket).await;
}

#[tokio::test]
async fn what_is_not_there_or_not_meant_is_said_so() {
    let mesh = Mesh::start().await;
    let http = mesh.target().http();
    let client = Client::new();
    for (method, path, status) in [
        (Method::GET, format!("/media/{}", "0".repeat(64)), 404),
        (Method::GET, "/media/../atoll.json".to_owned(), 404),
        (Method::GET, "/media/%2e%2e%2fatoll.json".to_owned(), 404),
        (Method::GET, "/mediaX".to_owned(), 404),
        (Method::GET, "/media".to_owned(), 405),
        (Method::DELETE, format!("/media/{}", "0".repeat(64)), 405),
    ] {
        let request = client
            .request(method.clone(), format!("{http}{path}"))
            .bearer_auth(token());
        assert_eq!(
            request.send().await.expect("an answer").status(),
            status,
            "{method} {path}"
        );
    }
    let stream = futures_util::stream::iter([Ok::<_, std::io::Error>("x")]);
    let request = client.put(format!("{http}/media")).bearer_auth(token());
    let chunked = request
        .body(reqwest::Body::wrap_stream(stream))
        .send()
        .await
        .expect("an answer");
    assert_eq!(chunked.status(), 411, "its length must be said");
    let full = Mesh::with(&json!({"media": {"maxMb": 1}})).await;
    let request = client
        .put(format!("{}/media", full.target().http()))
        .bearer_auth(token());
    let response = request.body(content(2 * MIB)).send().await;
    assert_eq!(response.expect("an answer").status(), 507);
}
