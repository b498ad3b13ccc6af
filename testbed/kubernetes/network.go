package main

import (
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
)

func address(link netlink.Link, own netip.Prefix) error {
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: network(own)}); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// route leads to `beyond`, or to everything, by way of `gateway`.
func route(link netlink.Link, beyond *netip.Prefix, gateway netip.Addr) error {
	added := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()}
	if beyond != nil {
		added.Dst = network(*beyond)
	}
	return netlink.RouteAdd(added)
}

func network(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{
		IP:   prefix.Addr().AsSlice(),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}
}

// setUpNetwork is done inside: loopback, the far end of the link, and forwarding between pods and machine.
func setUpNetwork(p *place) error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return err
	}
	far, err := netlink.LinkByName(p.device() + "p")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetName(far, "eth0"); err != nil {
		return err
	}
	if err := address(far, netip.PrefixFrom(p.node(), 24)); err != nil {
		return err
	}
	if err := route(far, nil, p.machine()); err != nil {
		return err
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
}
