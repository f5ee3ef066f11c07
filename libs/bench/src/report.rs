//! The command `chat`: one run, for a human.

use std::fmt::Write as _;

use anyhow::Result;

use crate::document::{print, save};
use crate::drive::{self, ChatResult};
use crate::options::{ChatOptions, Common};
use crate::stats::Summary;

pub(crate) fn chat(options: &ChatOptions) -> Result<()> {
    let common = &options.common;
    let plan = common.plan(&options.pace)?;
    let output = drive::run(&plan, &common.pids, &common.engine_pids, Vec::new())?;
    let result = output.result(&plan);
    save(common, "chat", &result)?;
    match common.quiet {
        true => Ok(()),
        false => print(&render(common, &result)?),
    }
}

fn render(common: &Common, r: &ChatResult) -> Result<String> {
    let mut out = String::new();
    let load = match r.rate > 0.0 {
        true => format!("{} req/s", r.rate),
        false => format!("{} users", r.concurrency),
    };
    writeln!(
        out,
        "{} {}: {} loop, {} {load}, {} tokens/answer, window {:.1} s",
        common.label,
        common.scenario,
        r.loop_kind,
        if r.stream { "stream" } else { "plain" },
        r.tokens_per_answer,
        r.window_s,
    )?;
    writeln!(
        out,
        "  {:.1} req/s, {:.0} tokens/s, {} ok, {} failed {:?}",
        r.requests_per_s, r.tokens_per_s, r.ok, r.failed, r.errors
    )?;
    for (class, sample) in r
        .error_samples
        .iter()
        .filter(|(_, sample)| !sample.is_empty())
    {
        writeln!(out, "    {class}: {sample}")?;
    }
    for (name, summary) in [
        ("latency", &r.latency_us),
        ("time to first token", &r.time_to_first_token_us),
        ("inter-token", &r.inter_token_us),
        ("request path", &r.request_path_us),
        ("token transit", &r.token_transit_us),
        ("generator lag", &r.generator_lag_us),
    ] {
        out.push_str(&row(name, summary));
    }
    usage(&mut out, r)?;
    Ok(out)
}

fn row(name: &str, s: &Summary) -> String {
    match s.count {
        0 => String::new(),
        _ => format!(
            "  {name:<22} p50 {:>9.0}  p90 {:>9.0}  p99 {:>9.0}  p99.9 {:>9.0}  max {:>9.0} us\n",
            s.p50, s.p90, s.p99, s.p999, s.max
        ),
    }
}

fn usage(out: &mut String, r: &ChatResult) -> Result<()> {
    if r.stream {
        writeln!(
            out,
            "  stalls {} in {} streams; {:.1} % of the tokens bunched",
            r.stalls,
            r.stalled_streams,
            r.bunched_share * 100.0
        )?;
    }
    if r.sut.processes > 0 {
        writeln!(
            out,
            "  system: {:.2} cores, {:.1} us CPU/request, {:.2} us CPU/token, RSS {:.1} -> {:.1} MiB",
            r.sut.cores,
            r.sut_cpu_us_per_request,
            r.sut_cpu_us_per_token,
            r.sut.rss_before_mib,
            r.sut.rss_peak_mib
        )?;
    }
    writeln!(
        out,
        "  engine {:.2} cores, generator {:.2} cores, unaccounted {:.2} cores, stolen {:.2} s, engines {:?}",
        r.engine.cores,
        r.own.cores,
        r.foreign_cpu_s / r.window_s,
        r.host_steal_s,
        r.engines
    )?;
    Ok(())
}
