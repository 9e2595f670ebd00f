//! `ipvsadm -h` and `-v`.

/// What scripts ask for to know which options there are: the version whose options these are.
pub(super) const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n";

/// The commands and options, shortly.
pub(super) const HELP: &str = "\
Usage:
  ipvsadm -A|E SERVICE [-s scheduler] [-p [seconds]] [-M mask] [--pe engine] [-b flags] [-o]
  ipvsadm -D SERVICE
  ipvsadm -C
  ipvsadm -a|e SERVICE -r SERVER [-g|i|m] [-w weight] [-x upper] [-y lower] [TUNNEL]
  ipvsadm -d SERVICE -r SERVER
  ipvsadm -L|l [SERVICE] [-n] [-X] [--nosort] [--stats|--rate|--thresholds|--persistent-conn|--tun-info]
  ipvsadm -L -c [-n] [--persistent-conn]
  ipvsadm -L --timeout|--daemon
  ipvsadm -Z [SERVICE]
  ipvsadm -S [-n]
  ipvsadm -R
  ipvsadm --set tcp tcpfin udp
  ipvsadm -h|-v

Commands:
  -A --add-service      add a virtual service
  -E --edit-service     replace a virtual service's settings; what is left out is default again
  -D --delete-service   delete a virtual service
  -C --clear            delete all virtual services, those of the configuration file too
  -a --add-server       add a real server
  -e --edit-server      replace a real server's settings; what is left out is default again
  -d --delete-server    delete a real server
  -L -l --list          list services, connections, timeouts
  -Z --zero             show counters from 0 on
  -S --save             print the commands that make the tables
  -R --restore          do the commands on standard input
     --set              set timeouts in seconds, 0 leaves one as it is
  -h --help, -v --version

SERVICE:
  -t --tcp-service HOST[:PORT]    -u --udp-service HOST[:PORT]    --sctp-service HOST[:PORT]
  -f --fwmark-service MARK [-6 --ipv6]

Options of services:
  -s --scheduler        rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos (default wlc)
  -p --persistent       seconds a client stays with its server (default 300)
  -M --netmask          which part of a client's address counts
     --pe               persistence engine: sip
  -b --sched-flags      sh-fallback,sh-port,mh-fallback,mh-port
  -o --ops              one-packet scheduling (udp, marks)

Options of servers:
  -r --real-server HOST[:PORT]
  -g --gatewaying       direct routing (default)
  -i --ipip             tunnel
  -m --masquerading     NAT
  -w --weight           default 1
  -x --u-threshold      no new connections from this many on (0: no limit)
  -y --l-threshold      new ones again below this many
TUNNEL:
  --tun-type ipip|gue|gre (default ipip)  --tun-port PORT  --tun-nocsum|--tun-csum|--tun-remcsum

Options of listings:
  -n --numeric          no names
  -c --connection       connections
  -X --exact            numbers in full
     --stats --rate --thresholds --persistent-conn --tun-info
     --timeout --daemon
     --nosort           in the order of the tables
";
