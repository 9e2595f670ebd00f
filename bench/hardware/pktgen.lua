-- Sluice's link scenarios for Pktgen-DPDK (https://github.com/pktgen/Pktgen-DPDK, 22.x or later).
--
--   pktgen -l 0-4 -n 4 -a 0000:3b:00.0 -- -P -m "[1-2:3-4].0" -f bench/hardware/pktgen.lua
--
-- Port 0 is cabled to Sluice's port; the director is configured as bench/README.md says, with
-- `protocol = udp`: Pktgen's ranges set no TCP flags, and any datagram may open a flow. Set DIRECTOR
-- to the MAC of Sluice's port. Flows are the clients 10.0.9.2 to 10.0.9.241 with as many ports as
-- needed; each run begins by opening them.

package.path = package.path .. ";?.lua;test/?.lua;app/?.lua;"
require "Pktgen"

local DIRECTOR = os.getenv("DIRECTOR") or "02:00:00:00:ff:00"
local SECONDS = tonumber(os.getenv("SECONDS") or "10")
local ADDRESSES = 240

local function flows(count)
    local ports = math.max(1, math.ceil(count / ADDRESSES))
    local hosts = math.min(count, ADDRESSES)
    pktgen.page("range")
    pktgen.range.dst_mac("0", "start", DIRECTOR)
    pktgen.range.ip_proto("0", "udp")
    pktgen.range.src_ip("0", "start", "10.0.9.2")
    pktgen.range.src_ip("0", "min", "10.0.9.2")
    pktgen.range.src_ip("0", "max", "10.0.9." .. (hosts + 1))
    pktgen.range.src_ip("0", "inc", "0.0.0.1")
    pktgen.range.dst_ip("0", "start", "10.0.1.50")
    pktgen.range.dst_ip("0", "inc", "0.0.0.0")
    pktgen.range.src_port("0", "start", 1024)
    pktgen.range.src_port("0", "min", 1024)
    pktgen.range.src_port("0", "max", 1023 + ports)
    pktgen.range.src_port("0", "inc", 1)
    pktgen.range.dst_port("0", "start", 80)
    pktgen.range.dst_port("0", "inc", 0)
    pktgen.range.pkt_size("0", "start", 64)
    pktgen.range.pkt_size("0", "inc", 0)
    pktgen.set_range("0", "on")
end

local function run(name, rate, seconds)
    pktgen.clr()
    pktgen.set("0", "rate", rate)
    pktgen.start("0")
    pktgen.delay(seconds * 1000)
    local rates = pktgen.portStats("0", "rate")[0]
    pktgen.stop("0")
    pktgen.delay(500)
    local port = pktgen.portStats("0", "port")[0]
    printf("%s: sent %d, received %d, lost %d, %.2f Mpps\n", name, port.opackets, port.ipackets,
        port.opackets - port.ipackets, rates.pkts_rx / 1e6)
end

for _, size in ipairs({ 1000, 1000000, 10000000 }) do
    flows(size)
    -- At a tenth of the rate, long enough for every flow to be seen.
    run("open " .. size, 10, math.ceil(size / 1000000) + 1)
    run("established " .. size, 100, SECONDS)
end
pktgen.quit()
