//! Generates the bindings and compiles DPDK's static inline functions into callable ones.
//!
//! Everything comes from the installed `libdpdk-dev`; nothing generated is kept in the repository. A machine without the
//! packages gets one message that names them, not a backtrace.

use std::env;
use std::panic;
use std::path::PathBuf;
use std::process::Command;

use bindgen::EnumVariation;
use bindgen::callbacks::{IntKind, ParseCallbacks};

/// The LTS whose structure layouts `src/lib.rs` asserts. A later ABI must be looked at before it is let in.
const VERSIONS: std::ops::Range<&str> = "22.11".."23.0";

/// Functions that are called, as whole-name regular expressions: a blanket `rte_.*` does not even compile (two headers
/// have packed structures with aligned members).
const FUNCTIONS: &[&str] = &[
    "mallopt",
    "dpdk_(errno|lcore_id)",
    "rte_strerror",
    "rte_version",
    "rte_eal_(init|cleanup|remote_launch|wait_lcore|get_runtime_dir)",
    "rte_dev_(probe|remove)",
    "rte_get_tsc_hz",
    "rte_(get_next_lcore|get_main_lcore|lcore_to_socket_id)",
    "rte_pktmbuf_(pool_create|alloc|alloc_bulk|free_bulk)",
    "rte_mempool_(avail_count|create_empty|set_ops_byname|populate_default|obj_iter|free)",
    "rte_pktmbuf_(init|pool_init)",
    "rte_mbuf_best_mempool_ops",
    "rte_eal_iova_mode",
    // The benchmark of the connection index.
    "rte_hash_(create|free|add_key_data|del_key|lookup_bulk_data)",
    "rte_malloc_heap_(create|destroy|memory_add|memory_remove|get_socket)",
    "rte_ring_(create|free|sp_enqueue_burst|sc_dequeue_burst|count|get_capacity)",
    "rte_eth_dev_(get_port_by_name|info_get|socket_id|configure|adjust_nb_rx_tx_desc)",
    "rte_eth_dev_(start|stop|close|set_mtu|get_mtu)",
    "rte_eth_dev_rss_(hash_update|hash_conf_get|reta_update|reta_query)",
    "rte_eth_(rx|tx)_(burst|queue_setup)",
    "rte_eth_(macaddr_get|link_get_nowait|stats_get)",
    "rte_eth_promiscuous_(enable|disable)",
    "rte_eth_allmulticast_enable",
];

/// Constants that are used.
const CONSTANTS: &[&str] = &[
    "M_ARENA_MAX",
    "RTE_ETH_(RX|TX)_OFFLOAD_.*",
    "RTE_ETH_RSS_.*",
    "RTE_ETH_RETA_GROUP_SIZE",
    "RTE_ETH_LINK_.*",
    "RTE_ETHER_(MTU|HDR_LEN|CRC_LEN)",
    "RTE_MAX_(LCORE|ETHPORTS)",
    "RTE_MBUF_F_.*",
    "RTE_PKTMBUF_HEADROOM",
    "LCORE_ID_ANY",
    "SOCKET_ID_ANY",
    "RING_F_.*",
    "RTE_MEMPOOL_F_NO_IOVA_CONTIG",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=wrapper.h");
    if let Err(cause) = generate() {
        // This alone fails the build; a failure status would have Cargo print all of this script's output as well.
        println!(
            "cargo::error=cannot bind DPDK: {cause}. On Debian 12: apt install libdpdk-dev libclang-dev pkg-config"
        );
    }
}

fn generate() -> Result<(), String> {
    let library = pkg_config::Config::new()
        .range_version(VERSIONS)
        .cargo_metadata(false)
        .env_metadata(true)
        .probe("libdpdk")
        .map_err(|e| missing_library(&e))?;
    let cflags = cflags()?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let inline = out.join("inline");

    bindings(&cflags, inline.clone())?
        .write_to_file(out.join("bindings.rs"))
        .map_err(|e| format!("cannot write the bindings: {e}"))?;

    let mut shim = cc::Build::new();
    cflags.iter().for_each(|flag| {
        shim.flag(flag);
    });
    shim.file(inline.with_extension("c"))
        .include(".") // its `#include "wrapper.h"`
        // The shim is a packet's path into the driver, also when the rest is a debug build.
        .opt_level(3)
        .warnings(false)
        .cargo_metadata(false)
        .try_compile("dpdk_inline")
        .map_err(|e| format!("cannot compile DPDK's inline functions: {e}"))?;
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=dpdk_inline");

    // Shared: drivers are plugins that EAL loads from its own directory. Only the libraries that are called.
    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for name in [
        "rte_ethdev",
        "rte_hash",
        "rte_mbuf",
        "rte_mempool",
        "rte_ring",
        "rte_eal",
    ] {
        println!("cargo::rustc-link-lib=dylib={name}");
    }
    Ok(())
}

/// The first line of what pkg-config has to say; its own text is a page.
fn missing_library(error: &pkg_config::Error) -> String {
    match error {
        pkg_config::Error::Command { cause, .. } => format!("pkg-config does not start ({cause})"),
        pkg_config::Error::ProbeFailure { .. } | pkg_config::Error::Failure { .. } => format!(
            "pkg-config finds no libdpdk with {} <= version < {}",
            VERSIONS.start, VERSIONS.end
        ),
        other => other
            .to_string()
            .lines()
            .next()
            .unwrap_or("pkg-config failed")
            .to_owned(),
    }
}

/// pkg-config's own words: the crate of that name drops `-march=` and `-include rte_config.h`, without which the inline
/// functions either do not compile or disagree with the library.
fn cflags() -> Result<Vec<String>, String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output = Command::new(&program)
        .args(["--cflags", "libdpdk"])
        .output()
        .map_err(|e| format!("{program} does not start ({e})"))?;
    if !output.status.success() {
        return Err(format!("`{program} --cflags libdpdk` failed"));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect())
}

fn bindings(cflags: &[String], inline: PathBuf) -> Result<bindgen::Bindings, String> {
    let mut builder = bindgen::builder();
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in CONSTANTS {
        builder = builder.allowlist_var(name);
    }
    builder = builder
        .header("wrapper.h")
        .clang_args(cflags)
        // Without it every flag built on RTE_BIT64 is silently missing.
        .clang_macro_fallback()
        .clang_macro_fallback_build_dir(
            env::var_os("OUT_DIR")
                .map(PathBuf::from)
                .unwrap_or_default(),
        )
        .parse_callbacks(Box::new(Flags64))
        .default_enum_style(EnumVariation::ModuleConsts)
        .opaque_type("rte_arp_.*")
        .derive_default(true)
        .layout_tests(false)
        .generate_comments(false)
        .use_core()
        .rust_target(bindgen::RustTarget::stable(85, 0).map_err(|e| e.to_string())?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .wrap_static_fns(true)
        .wrap_static_fns_path(inline);

    // bindgen panics where libclang cannot be loaded.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| ()));
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| builder.generate()));
    panic::set_hook(hook);
    match result {
        Ok(Ok(bindings)) => Ok(bindings),
        Ok(Err(e)) => Err(format!("the headers do not parse ({e})")),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map_or("no reason given", String::as_str);
            Err(format!(
                "libclang does not work ({})",
                text.lines().next().unwrap_or_default()
            ))
        }
    }
}

/// Makes the flag words `u64`, as the structures that carry them have it, whatever their value.
#[derive(Debug)]
struct Flags64;

impl ParseCallbacks for Flags64 {
    fn int_macro(&self, name: &str, _value: i64) -> Option<IntKind> {
        let flags = [
            "RTE_ETH_RX_OFFLOAD_",
            "RTE_ETH_TX_OFFLOAD_",
            "RTE_ETH_RSS_",
            "RTE_MBUF_F_",
        ];
        flags
            .iter()
            .any(|prefix| name.starts_with(prefix))
            .then_some(IntKind::U64)
    }
}
