use super::*;

#[test]
fn pressure_is_percents_and_microseconds() {
    let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=5\n";
    let psi = psi(text).unwrap();
    assert_eq!((psi.some.avg10, psi.some.avg60, psi.some.total), (1.5, 0.25, 77));
    assert_eq!((psi.full.avg300, psi.full.total), (0.01, 5));
    assert_eq!(super::psi("").unwrap(), Psi::default());
}

#[test]
fn lists_of_processors_are_counted_out() {
    assert_eq!(ids("0-2,7\n").unwrap(), [0, 1, 2, 7]);
    assert_eq!(ids("\n").unwrap(), [] as [u16; 0]);
    assert!(ids("a").is_err() && ids("1-").is_err());
}

#[test]
fn v1_devices_are_told_with_and_without_an_operation() {
    let entry = |minor, op: &str, value| BlkioEntry { major: 8, minor, op: op.to_owned(), value };
    let text = "8:0 Read 4096\n8:0 Total 4096\n8:16 5\nTotal 4096\n";
    let expected = [entry(0, "Read", 4096), entry(0, "Total", 4096), entry(16, "", 5)];
    assert_eq!(blkio_entries(text).unwrap(), expected);
    assert_eq!(blkio_entries("Total 0\n").unwrap(), []);
}

#[test]
fn v2_devices_get_v1s_names() {
    let entry = |op: &str, value| BlkioEntry { major: 254, minor: 0, op: op.to_owned(), value };
    let blkio = io_stat("254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n7:0 \n").unwrap();
    assert_eq!(blkio.io_service_bytes_recursive, [entry("Read", 1), entry("Write", 2)]);
    assert_eq!(blkio.io_serviced_recursive, [entry("Read", 3), entry("Write", 4)]);
}

#[test]
fn numbers_have_a_largest_and_never_less_than_nothing() {
    assert_eq!(number("max").unwrap(), u64::MAX);
    assert_eq!(number("-3").unwrap(), 0);
    assert_eq!(numbers("1 2 3 ").unwrap(), [1, 2, 3]);
    assert!(number("x").is_err());
}

/// The keys are an interface: those of runc's types/events.go.
#[test]
fn the_keys_are_runcs() {
    let psi = Some(Psi::default());
    let entry = || vec![BlkioEntry { major: 8, minor: 0, op: "Read".to_owned(), value: 1 }];
    let memory = || Some(MemoryEntry { max: Some(0), ..MemoryEntry::default() });
    let stats = Stats {
        cpu: Cpu {
            usage: Some(CpuUsage {
                percpu: vec![1],
                percpu_kernel: vec![2],
                percpu_user: vec![3],
                ..CpuUsage::default()
            }),
            throttling: Some(Throttling::default()),
            psi: psi.clone(),
        },
        cpuset: Cpuset { cpus: vec![0], mems: vec![0], ..Cpuset::default() },
        memory: Memory {
            cache: Some(0),
            usage: memory(),
            swap: memory(),
            kernel: memory(),
            kernel_tcp: memory(),
            raw: [("anon".to_owned(), 1)].into(),
            psi: psi.clone(),
        },
        blkio: Blkio {
            counted: true,
            io_service_bytes_recursive: entry(),
            io_serviced_recursive: entry(),
            io_queued_recursive: entry(),
            io_service_time_recursive: entry(),
            io_wait_time_recursive: entry(),
            io_merged_recursive: entry(),
            io_time_recursive: entry(),
            sectors_recursive: entry(),
            psi,
        },
        hugetlb: [("2MB".to_owned(), Hugetlb { max: Some(0), ..Hugetlb::default() })].into(),
        ..Stats::default()
    };
    let psi = r#"{"some":{"avg10":0.0,"avg60":0.0,"avg300":0.0,"total":0},"full":{"avg10":0.0,"avg60":0.0,"avg300":0.0,"total":0}}"#;
    let memory = r#"{"limit":0,"usage":0,"max":0,"failcnt":0}"#;
    let io = r#"[{"major":8,"minor":0,"op":"Read","value":1}]"#;
    let expected = [
        r#"{"cpu":{"usage":{"total":0,"percpu":[1],"percpu_kernel":[2],"percpu_user":[3],"kernel":0,"user":0},"#,
        r#""throttling":{"periods":0,"throttledPeriods":0,"throttledTime":0},"psi":PSI},"#,
        r#""cpuset":{"cpus":[0],"cpu_exclusive":0,"mems":[0],"mem_hardwall":0,"mem_exclusive":0,"#,
        r#""memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"#,
        r#""sched_load_balance":0,"sched_relax_domain_level":0},"#,
        r#""memory":{"cache":0,"usage":MEMORY,"swap":MEMORY,"kernel":MEMORY,"kernelTCP":MEMORY,"#,
        r#""raw":{"anon":1},"psi":PSI},"pids":{"current":0,"limit":0},"#,
        r#""blkio":{"ioServiceBytesRecursive":IO,"ioServicedRecursive":IO,"ioQueueRecursive":IO,"#,
        r#""ioServiceTimeRecursive":IO,"ioWaitTimeRecursive":IO,"ioMergedRecursive":IO,"#,
        r#""ioTimeRecursive":IO,"sectorsRecursive":IO,"psi":PSI},"#,
        r#""hugetlb":{"2MB":{"usage":0,"max":0,"failcnt":0}}}"#,
    ];
    let expected =
        expected.concat().replace("PSI", psi).replace("MEMORY", memory).replace("IO", io);
    assert_eq!(serde_json::to_string(&stats).unwrap(), expected);
}

/// runc omits these as well: a program in Go reads both in the same way.
#[test]
fn what_is_not_counted_is_not_there() {
    let expected = [
        r#"{"cpu":{},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"#,
        r#""memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"#,
        r#""sched_load_balance":0,"sched_relax_domain_level":0},"#,
        r#""memory":{},"pids":{"current":0,"limit":0},"blkio":{},"hugetlb":{}}"#,
    ];
    assert_eq!(serde_json::to_string(&Stats::default()).unwrap(), expected.concat());
}
