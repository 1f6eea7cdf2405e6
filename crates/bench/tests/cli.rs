//! The program as users call it: a whole quick measurement of the floor, and its errors when it cannot measure.

use std::process::{Command, Output};

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fanfare-bench"))
        .args(args)
        .args(["--quick", "--load-core", "0"]) // a machine for tests may have one core
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn every_suite_measures_the_floor() {
    let json = std::env::temp_dir().join(format!("fanfare-bench-cli-{}.json", std::process::id()));
    let path = json.to_str().expect("UTF-8");
    for wait in ["sleep", "spin"] {
        let output = bench(&["all", "--servers", "floor", "--wait", wait, "--json", path]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let written = std::fs::read(&json).expect("written");
        std::fs::remove_file(&json).expect("removed");
        let report: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
        let metrics = report["metrics"].as_array().expect("a list");
        assert_eq!(metrics.len(), 15, "{report:#}");
        for metric in metrics {
            let name = metric["metric"].as_str().expect("a name");
            assert!(text(&output.stdout).contains(name), "{name} is in the table too");
            let median = metric["servers"][0]["summary"]["median"].as_f64().expect("a number");
            assert!(median.is_finite() && median >= 0.0, "{name}: {median}");
        }
    }
}

#[test]
fn a_missing_peer_is_named_with_the_command_that_installs_it() {
    let output = bench(&["echo", "--servers", "floor,ws", "--peers", "/nonexistent"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "error: ws is not there: /nonexistent/node_modules/ws is missing\n\n\
                    hint: npm ci --prefix crates/bench/peers\n";
    assert_eq!(text(&output.stderr), expected);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_server_that_does_not_start_shows_what_it_printed() {
    let output =
        bench(&["fanout", "--servers", "fanfare", "--fanfare", "/bin/ls", "--fanfare-args", "/nonexistent-{addr}"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("/bin/ls does not serve on 127.0.0.1:"), "{stderr}");
    assert!(stderr.contains("/nonexistent-127.0.0.1:"), "{stderr}");
}
