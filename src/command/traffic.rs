//! Traffic for a collector: captures sent again, load, a simulated provider.

use anyhow::Context as _;
use benocs_sim::{Stop, generate, replay, simulate};

use crate::cli::{FlowProtocol, GenerateArgs, ReplayArgs, Scale, SimulateArgs};
use crate::roles::Usage;
use crate::when;

/// Ends a command early on SIGINT or SIGTERM, so that it still says what it did.
pub(super) fn stop_on_signal() -> anyhow::Result<Stop> {
    let stop = Stop::default();
    let on_signal = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            if super::ended_by_signal().await.is_ok() {
                on_signal.stop();
            }
        });
    })?;
    Ok(stop)
}

pub fn replay(arguments: ReplayArgs) -> anyhow::Result<()> {
    let report = replay::run(replay::Config {
        captures: arguments.capture,
        to: arguments.to,
        speed: arguments.speed,
        port: arguments.port,
        repeat: arguments.repeat,
        source: if arguments.keep_source { replay::SourceMode::Keep } else { replay::SourceMode::Loopback },
        stop: stop_on_signal()?,
        ..replay::Config::default()
    })?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

pub fn generate(arguments: GenerateArgs) -> anyhow::Result<()> {
    let report = generate::run(generate::Config {
        to: arguments.to,
        rate: arguments.rate,
        seconds: arguments.count.is_none().then_some(arguments.seconds),
        count: arguments.count,
        exporters: arguments.exporters,
        first_source: arguments.first_source,
        records_per_packet: arguments.records_per_packet,
        protocol: match arguments.protocol {
            FlowProtocol::V5 => generate::Protocol::V5,
            FlowProtocol::V9 => generate::Protocol::V9,
            FlowProtocol::Ipfix => generate::Protocol::Ipfix,
            FlowProtocol::Sflow => generate::Protocol::Sflow,
        },
        seed: arguments.seed,
        unique_key: arguments.unique_key,
        first_key: arguments.first_key,
        stop: stop_on_signal()?,
    })
    .context("generate")?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

/// The community of the simulated agents, in the directory of `--files`.
const COMMUNITY_FILE: &str = "community";

/// Names of the AS numbers of the simulated internet, beside it.
const AS_NAMES_FILE: &str = "as-names.csv";

pub fn simulate(arguments: SimulateArgs) -> anyhow::Result<()> {
    let faults = arguments.fault.iter().map(|fault| fault.parse().map_err(|error| anyhow::Error::new(Usage(error))));
    let backfill_ms = arguments.backfill.as_deref().map_or(Ok(0), when::duration_ms);
    let backfill_ms = backfill_ms.map_err(|error| Usage(format!("--backfill: {error:#}")))?;
    let config = simulate::Config {
        seed: arguments.seed,
        scale: match arguments.scale {
            Scale::Small => simulate::Scale::Small,
            Scale::Medium => simulate::Scale::Medium,
            Scale::Large => simulate::Scale::Large,
        },
        as_table: arguments.as_table,
        collector: Some(arguments.collector),
        sflow: Some(arguments.sflow),
        bgp: Some(arguments.bgp),
        dnstap: Some(arguments.dnstap),
        dnstap_file: arguments.dnstap_file,
        snmp_port: Some(arguments.snmp_port),
        sampling: arguments.sampling,
        conversations_per_s: arguments.conversations,
        backfill_s: (backfill_ms / 1000) as u64,
        duration_s: arguments.seconds,
        truth: arguments.truth,
        graph: arguments.graph,
        igp_nodes: arguments.igp_nodes as usize,
        faults: faults.collect::<Result<_, _>>()?,
        stop: stop_on_signal()?,
        ..simulate::Config::default()
    };
    if arguments.print_config {
        let directory = arguments.files.unwrap_or_else(|| std::path::PathBuf::from("."));
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let community = std::path::absolute(directory.join(COMMUNITY_FILE))?;
        std::fs::write(&community, format!("{}\n", config.snmp_community))
            .with_context(|| format!("cannot write {}", community.display()))?;
        let names = std::path::absolute(directory.join(AS_NAMES_FILE))?;
        let model = simulate::Model::build(&config)?;
        simulate::write_graph(&config, &model)?;
        let lines: String = model.network.as_names.iter().map(|(number, name)| format!("{number},{name}\n")).collect();
        std::fs::write(&names, lines).with_context(|| format!("cannot write {}", names.display()))?;
        print!("{}", simulate::print_config(&config, &community)?);
        println!("\n[network]\nown_as = [{}]\nas_names_file = {:?}", config.own_as, names.display().to_string());
        return Ok(());
    }
    let report = simulate::run(config)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
