//! Prints the JSON Schema of `tappaas.toml`, as `docs/manifest.schema.json` has it.

use std::io::Write as _;

use tappaas_core::manifest::Manifest;

fn main() -> std::io::Result<()> {
    let schema = serde_json::to_string_pretty(&Manifest::schema())?;
    writeln!(std::io::stdout(), "{schema}")
}
