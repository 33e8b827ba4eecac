//! Resolves names across 25 relays while relays fail, and shows it. With `--serve` it then stays up for `dig`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser;
use qsocket_examples::demo::Demo;
use qsocket_examples::demo::grid::Style;

/// Resolve names across 25 relays on this machine while relays hang, stop and come back.
#[derive(Parser)]
struct Arguments {
    /// Port of the local stub on 127.0.0.1, UDP and TCP; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Keep running afterwards, for `dig` in another terminal.
    #[arg(long)]
    serve: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let color =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let demo = Demo::start(arguments.port).await?;
    let style = if color { Style::Color } else { Style::Plain };
    let summary = demo.run(&mut std::io::stdout(), style).await?;
    if arguments.serve {
        println!("\nAll relays run. Ask in another terminal; Ctrl-C ends this.\n");
        println!("    dig @127.0.0.1 -p {} www.raida.example", demo.address().port());
        tokio::signal::ctrl_c().await?;
    }
    demo.stop().await?;
    Ok(if summary.answered == summary.asked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
