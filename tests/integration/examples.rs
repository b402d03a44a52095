//! The examples do what they say.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// An example's program, which `cargo test` builds beside this one: in `examples`, next to the folder `deps` of tests.
fn example(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let folder = this.parent().and_then(|deps| deps.parent()).unwrap().join("examples");
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "{} is not built; run cargo build --examples, or cargo test without naming a target",
        path.display()
    );
    path
}

#[test]
fn embed_segments_trains_and_scores() {
    let output = Command::new(example("embed")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7, "{text}");
    let segments: usize = lines[..3]
        .iter()
        .enumerate()
        .map(|(i, line)| {
            let rest = line.strip_prefix(&format!("segment {}: ", i + 1)).unwrap();
            rest.split(' ').next().unwrap().parse::<usize>().unwrap()
        })
        .sum();
    assert_eq!(segments, 600, "{text}");
    assert!(
        lines[3].starts_with("the model was trained in ") && lines[3].ends_with(" passes"),
        "{text}"
    );
    let risks: Vec<f64> = lines[4..]
        .iter()
        .map(|l| l.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(
        risks.is_sorted_by(|a, b| a >= b) && risks[0] > 0.5 && risks[0] < 1.0,
        "{text}"
    );
}

struct Service {
    process: Child,
    address: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Service {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(example("service"))
            .arg("127.0.0.1:0")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("it said {line:?}"))
            .to_string();
        Self { process, address }
    }

    /// Status and body of a request.
    fn request(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(
            head.to_lowercase().contains("content-type: application/json"),
            "{answer}"
        );
        (
            status,
            serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}")),
        )
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.request("POST", path, &body.to_string())
    }
}

#[test]
fn service_trains_scores_and_refuses_what_is_wrong() {
    let service = Service::start(&[]);
    let training = json!({"table": "customers", "label": "churned", "id": ["customer_id"]});
    let (status, trained) = service.post("/train/churn", &training);
    assert_eq!(status, 200, "{trained}");
    assert_eq!((&trained["model"], &trained["version"]), (&json!("churn"), &json!(1)));
    assert!(
        trained["passes"].as_u64().unwrap() >= 1 && trained["loss"].as_f64().unwrap() < 0.7,
        "{trained}"
    );

    let risk = |customer: Value| {
        let (status, answer) = service.post("/score/churn", &customer);
        assert_eq!(status, 200, "{answer}");
        answer["churn_score"].as_f64().unwrap()
    };
    let new = risk(json!({"tenure": 1, "spend": 50.0, "plan": "basic"}));
    let old = risk(json!({"plan": "basic", "spend": 50.0, "tenure": 58}));
    assert!(0.0 < old && old < new && new < 1.0, "{old} {new}");
    // NULLs and categories that were never seen get a score too.
    let unknown = risk(json!({"tenure": null, "spend": null, "plan": null}));
    assert!(0.0 < unknown && unknown < 1.0);
    risk(json!({"tenure": 5, "spend": 50, "plan": "gold"}));

    let (status, listed) = service.request("GET", "/models", "");
    assert_eq!((status, &listed[0]["model"]), (200, &json!("churn")), "{listed}");
    assert_eq!(service.post("/train/churn", &training).1["version"], json!(2));

    let customer = json!({"tenure": 1, "spend": 50.0, "plan": "basic"});
    let refused = [
        (404, "no model", service.post("/score/nobody", &customer)),
        (400, "expects", service.post("/score/churn", &json!({"tenure": 1}))),
        (
            400,
            "no column of model",
            service.post(
                "/score/churn",
                &json!({"tenure": 1, "spend": 1, "plan": "x", "shoe": 43}),
            ),
        ),
        (
            400,
            "cast",
            service.post("/score/churn", &json!({"tenure": "long", "spend": 1, "plan": "x"})),
        ),
        (
            400,
            "no single value",
            service.post("/score/churn", &json!({"tenure": [1], "spend": 1, "plan": "x"})),
        ),
        (
            400,
            "the body",
            service.request("POST", "/score/churn", "{\"tenure\": "),
        ),
        (400, "the body", service.request("POST", "/score/churn", "[1, 2]")),
        (
            404,
            "no table",
            service.post("/train/x", &json!({"table": "nothing", "label": "churned"})),
        ),
        (
            400,
            "'nothing'",
            service.post("/train/x", &json!({"table": "customers", "label": "nothing"})),
        ),
        (
            400,
            "unknown field",
            service.post("/train/x", &json!({"table": "customers", "label": "churned", "k": 3})),
        ),
        (
            400,
            "l2",
            service.post("/train/x", &json!({"table": "customers", "label": "churned", "l2": -1})),
        ),
        (
            422,
            "label",
            service.post("/train/x", &json!({"table": "customers", "label": "tenure"})),
        ),
        (400, "name", service.post("/train/..%2Fx", &training)),
        // What would end a quoted text stays a text.
        (
            400,
            "--",
            service.post("/train/x", &json!({"table": "customers", "label": "churned') --"})),
        ),
        (
            404,
            "no table",
            service.post("/train/x", &json!({"table": "customers\") --", "label": "churned"})),
        ),
        (404, "nothing at this path", service.request("GET", "/elsewhere", "")),
        (405, "POST", service.request("GET", "/train/churn", "")),
    ];
    for (status, part, (got, answer)) in refused {
        let message = answer["error"].as_str().unwrap_or_default();
        assert!(
            got == status && message.contains(part),
            "{status} and {part:?} are expected: {got} {answer}"
        );
    }
    // After all of that it still serves.
    assert_eq!(service.post("/score/churn", &customer).0, 200);
}

#[test]
fn service_reads_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = String::from("id,age,left\n");
    for i in 0..200 {
        text += &format!(
            "{i},{},{}\n",
            20 + i % 50,
            if i * 7 % 50 < i % 50 { "true" } else { "false" }
        );
    }
    std::fs::write(folder.path().join("People.csv"), text).unwrap();
    let service = Service::start(&[folder.path().to_str().unwrap()]);
    let (status, answer) = service.post(
        "/train/leavers",
        &json!({"table": "People", "label": "left", "id": ["id"]}),
    );
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = service.post("/score/leavers", &json!({"age": 69}));
    assert_eq!(status, 200, "{answer}");
    assert!(answer["churn_score"].as_f64().unwrap() > 0.5, "{answer}");
}
