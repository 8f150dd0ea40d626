use std::future::pending;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// Answers one connection after the other with these bytes, then closes it; gives the heads that it was sent.
struct Server {
    url: Url,
    heads: JoinHandle<Vec<String>>,
}

impl Server {
    async fn start(answers: &[&str]) -> Self {
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/s", listener.local_addr().expect("bound"));
        let heads = tokio::spawn(async move {
            let mut heads = Vec::new();
            for answer in answers {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                heads.push(head(&mut socket).await);
                socket.write_all(answer.as_bytes()).await.expect("written");
            }
            heads
        });
        Self {
            url: Url::parse(&url).expect("a URL"),
            heads,
        }
    }

    fn request(&self) -> Request {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Request {
            url: self.url.clone(),
            preferred: None,
            headers: HeaderMap::new(),
        }
    }

    async fn heads(self) -> Vec<String> {
        let played = tokio::time::timeout(Duration::from_secs(10), self.heads).await;
        let heads = played.expect("each answer of the script was asked for");
        heads.expect("the script was played to its end")
    }
}

async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("UTF-8").to_ascii_lowercase()
}

/// All events' data, and the sentence at the end.
async fn followed(request: Request) -> (Vec<String>, String) {
    let mut seen = Vec::new();
    let ended = follow(request, |event| {
        seen.push(event.data.clone());
        Ok(Sense::Made)
    });
    match ended.await {
        Ended::Failed(sentence) => (seen, sentence),
        Ended::Unread => panic!("somebody reads"),
    }
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again_with_the_id_of_the_last_whole_event() {
    let first = format!("{STREAM}retry: 500\n\nid: a-1\ndata: one\n\nid: a-2\ndata: cut");
    let second = format!("{STREAM}data: two\n\n");
    let server = Server::start(&[&first, "", &second, NOT_FOUND]).await;
    let (seen, sentence) = followed(server.request()).await;
    assert_eq!(seen, ["one", "two"]);
    assert!(
        sentence.ends_with("/s answered 404 Not Found"),
        "{sentence}"
    );
    let heads = server.heads().await;
    assert!(
        heads[0].contains("accept: text/event-stream\r\n") && !heads[0].contains("last-event-id")
    );
    for head in &heads[1..] {
        assert!(head.contains("last-event-id: a-1\r\n"), "{head}");
    }
}

#[tokio::test]
async fn a_first_connection_that_fails_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let url = Url::parse(&format!("http://user:canary@{address}/s?token=canary")).expect("a URL");
    let (seen, sentence) = followed(Request {
        url,
        preferred: None,
        headers: HeaderMap::new(),
    })
    .await;
    assert!(seen.is_empty());
    assert!(
        sentence.starts_with(&format!("no connection to http://{address}/s: ")),
        "{sentence}"
    );
    assert!(!sentence.contains("canary"), "EDGE O3: {sentence}");
}

#[tokio::test]
async fn what_is_no_stream_is_told() {
    let problem = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\n\r\n\
        {\"title\":\"Too Many Requests\",\"status\":429,\"detail\":\"Slow \\u001b[31mdown.\"}";
    for (answer, expected) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=x\r\n\r\n<p>",
            "answered 200 OK with content type text/html; charset=x, not text/event-stream",
        ),
        (
            "HTTP/1.1 200 OK\r\n\r\n",
            "answered 200 OK without a content type, not text/event-stream",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n",
            "answered 200 OK with content coding gzip, which was not asked for",
        ),
        (
            "HTTP/1.1 204 No Content\r\n\r\n",
            "answered 204 No Content: the stream has ended for good",
        ),
        (
            "HTTP/1.1 500 \r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n",
            "answered 500 Internal Server Error",
        ),
        (
            problem,
            "answered 429 Too Many Requests: Slow \\u{1b}[31mdown.",
        ),
        (
            "HTTP/1.1 301 \r\nLocation: http://127.0.0.1:1/x\r\n\r\n",
            "answered 301 Moved Permanently to http://127.0.0.1:1/x, which is not followed to another origin",
        ),
    ] {
        let server = Server::start(&[answer]).await;
        let (seen, sentence) = followed(server.request()).await;
        assert!(
            seen.is_empty() && sentence.ends_with(&format!("/s {expected}")),
            "{sentence}"
        );
    }
}

#[tokio::test]
async fn a_content_type_may_have_parameters_and_capitals() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream ; charset=UTF-8\r\n\r\nretry: 1\ndata: x\n\n";
    let server = Server::start(&[answer, NOT_FOUND]).await;
    assert_eq!(followed(server.request()).await.0, ["x"]);
}

#[tokio::test]
async fn without_patches_the_url_is_asked_as_it_was_given() {
    let server = Server::start(&["HTTP/1.1 406 \r\n\r\n", NOT_FOUND]).await;
    let mut request = server.request();
    let preferred = format!("{}?deliver=json-patch", request.url);
    request.preferred = Some(Url::parse(&preferred).expect("a URL"));
    followed(request).await;
    let heads = server.heads().await;
    assert!(
        heads[0].starts_with("get /s?deliver=json-patch http/1.1"),
        "{}",
        heads[0]
    );
    assert!(heads[1].starts_with("get /s http/1.1"), "{}", heads[1]);
}

#[tokio::test]
async fn a_lost_value_is_asked_for_anew() {
    let stream = format!("{STREAM}retry: 1\nid: a-1\ndata: x\n\n");
    let server = Server::start(&[&stream, NOT_FOUND]).await;
    let mut request = server.request();
    request
        .headers
        .insert(LAST_EVENT_ID, HeaderValue::from_static("start"));
    follow(request, |_| Ok(Sense::Lost("test".into()))).await;
    let heads = server.heads().await;
    assert!(
        heads[0].contains("last-event-id: start\r\n"),
        "{}",
        heads[0]
    );
    assert!(!heads[1].contains("last-event-id"), "{}", heads[1]);
}

#[tokio::test]
async fn redirects_are_followed_within_the_origin() {
    let server = Server::start(&[
        "HTTP/1.1 302 \r\nLocation: /t\r\nConnection: close\r\n\r\n",
        NOT_FOUND,
    ])
    .await;
    let mut request = server.request();
    request
        .headers
        .insert("x-api-key", HeaderValue::from_static("k"));
    followed(request).await;
    let heads = server.heads().await;
    assert!(
        heads[1].starts_with("get /t http/1.1") && heads[1].contains("x-api-key: k\r\n"),
        "{}",
        heads[1]
    );
}

/// The other server would have to be asked for this to end.
#[tokio::test]
async fn a_secret_does_not_leave_the_origin() {
    let other = Server::start(&[NOT_FOUND]).await;
    let answer = format!("HTTP/1.1 302 \r\nLocation: {}\r\n\r\n", other.url);
    let server = Server::start(&[&answer]).await;
    let (_, sentence) = followed(server.request()).await;
    assert!(sentence.contains("not followed"), "{sentence}");
    assert!(!other.heads.is_finished());
}

#[tokio::test]
async fn the_wait_stays_within_bounds() {
    for (asked, kept) in [
        ("0", RETRY.0),
        ("1234", Duration::from_millis(1234)),
        ("18446744073709551615", RETRY.1),
    ] {
        let server = Server::start(&[&format!("{STREAM}retry: {asked}\n\n")]).await;
        let Ok(mut follower) = Follower::new(server.request()) else {
            panic!("no client");
        };
        assert_eq!(follower.retry, DEFAULT_RETRY);
        let Ok(Some(response)) = follower.open(true).await else {
            panic!("no stream");
        };
        assert!(
            follower
                .read(response, &mut |_| Ok(Sense::Made))
                .await
                .is_ok()
        );
        assert_eq!(follower.retry, kept);
    }
}

#[tokio::test]
async fn nobody_reading_ends_it_without_a_complaint() {
    let server = Server::start(&[&format!("{STREAM}data: x\n\n")]).await;
    let ended = follow(server.request(), |_| Err(io::ErrorKind::BrokenPipe.into())).await;
    assert!(matches!(ended, Ended::Unread));
}

#[tokio::test]
async fn events_are_given_when_they_come_and_not_when_the_stream_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = Url::parse(&format!(
        "http://{}/",
        listener.local_addr().expect("bound")
    ))
    .expect("a URL");
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        head(&mut socket).await;
        socket
            .write_all(format!("{STREAM}data: x\n\n").as_bytes())
            .await
            .expect("written");
        pending::<()>().await;
        drop(socket);
    });
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request = Request {
        url,
        preferred: None,
        headers: HeaderMap::new(),
    };
    let (seen, mut came) = tokio::sync::mpsc::unbounded_channel();
    let print = move |event: &Event| {
        let _ = seen.send(event.data.clone());
        Ok(Sense::Made)
    };
    tokio::select! {
        _ = follow(request, print) => panic!("the stream does not end"),
        data = came.recv() => assert_eq!(data.as_deref(), Some("x")),
    }
}
