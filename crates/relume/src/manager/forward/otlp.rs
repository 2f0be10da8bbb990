//! OpenTelemetry logs over HTTP, in the JSON encoding that is part of the protocol.
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>

use axum::body::Body;
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use relume_config::Address;
use serde_json::{Value, json};

use super::net::Stream;
use super::record::{Record, Severity};
use super::sink::Sent;
use super::syslog::host;

/// The most of an answer that is read, in bytes.
const MOST_ANSWER: usize = 64 << 10;

/// Sends a batch as one request.
pub(super) async fn send(
    stream: Box<dyn Stream>,
    (address, path): (&Address, &str),
    headers: &[(String, String)],
    batch: &[Record],
) -> Result<Sent, String> {
    let (mut sender, connection) =
        http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with the request, which says what went wrong.
    let driver = tokio::spawn(connection);
    let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
    let mut request = Request::post(path)
        .header("host", format!("{host}:{}", address.port))
        .header("content-type", "application/json")
        .header("user-agent", concat!("relume/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::from(body(batch).to_string())).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = axum::body::to_bytes(Body::new(answer.into_body()), MOST_ANSWER).await.unwrap_or_default();
    driver.abort();
    judge(status.as_u16(), &text)
}

/// What an answer means, by the specification: some failures are to be tried again, the others never succeed.
fn judge(status: u16, body: &[u8]) -> Result<Sent, String> {
    let said = || {
        let text: String =
            String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(200).collect();
        format!("HTTP {status} {text}").trim_end().to_owned()
    };
    match status {
        200..300 => Ok(rejected(body).map_or(Sent::Taken, Sent::Refused)),
        // Also what a proxy or a wrong path answers is put right by people, not by giving lines up.
        401 | 403 | 404 | 408 | 429 | 500..600 => Err(said()),
        _ => Ok(Sent::Refused(said())),
    }
}

/// Part of the batch was not taken.
fn rejected(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let partial = answer.get("partialSuccess")?;
    let count = partial.get("rejectedLogRecords")?;
    // 64-bit numbers are texts in this encoding; receivers write both.
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok()).filter(|&count| count > 0)?;
    let why = partial.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
    Some(format!("{count} lines were rejected {why}").trim_end().to_owned())
}

/// The lines of each service are a resource.
fn body(batch: &[Record]) -> Value {
    let host = host();
    let parts = batch.chunk_by(|a, b| a.service == b.service);
    let resource = |part: &[Record]| {
        let service = part.first().map(|record| record.service.as_str()).unwrap_or_default();
        json!({
            "resource": { "attributes": [text("service.name", service), text("host.name", &host)] },
            "scopeLogs": [{
                "scope": { "name": "relume", "version": env!("CARGO_PKG_VERSION") },
                "logRecords": part.iter().map(record).collect::<Vec<_>>(),
            }],
        })
    };
    json!({ "resourceLogs": parts.map(resource).collect::<Vec<_>>() })
}

fn record(record: &Record) -> Value {
    let mut attributes = vec![text("log.iostream", record.stream())];
    if let Some(run) = record.run {
        attributes.push(json!({ "key": "relume.run", "value": { "intValue": run.to_string() } }));
    }
    let mut value = json!({
        "timeUnixNano": record.at.to_string(),
        "observedTimeUnixNano": record.at.to_string(),
        "body": { "stringValue": record.text() },
        "attributes": attributes,
    });
    // A service's line says nothing that we could read of how bad it is.
    let severity = record.severity.map(|severity| match severity {
        Severity::Error => (17, "ERROR"),
        Severity::Warning => (13, "WARN"),
        Severity::Info => (9, "INFO"),
        Severity::Debug => (5, "DEBUG"),
    });
    if let (Some((number, word)), Some(value)) = (severity, value.as_object_mut()) {
        value.insert("severityNumber".into(), number.into());
        value.insert("severityText".into(), word.into());
    }
    value
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_specification_says() {
        assert_eq!(judge(200, b"{}"), Ok(Sent::Taken));
        assert!(judge(503, b"").is_err() && judge(429, b"").is_err() && judge(404, b"").is_err());
        assert_eq!(judge(400, b"bad\n"), Ok(Sent::Refused("HTTP 400 bad".into())));
        let partial = br#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}"#;
        assert_eq!(judge(200, partial), Ok(Sent::Refused("2 lines were rejected too old".into())));
        assert_eq!(judge(200, br#"{"partialSuccess":{"rejectedLogRecords":0}}"#), Ok(Sent::Taken));
    }
}
