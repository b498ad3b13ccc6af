package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// place is where a testbed keeps everything, and which networks it has.
type place struct {
	// Directory holds all files.
	Directory string `json:"directory"`
	// Programs holds what is not compiled into this one: contour, dns, envoy, kwok, pause, programs, and the files of their modules.
	Programs string `json:"programs"`
	// Network tells the testbeds of a machine apart.
	Network int `json:"network"`
	// Simulated is how many nodes are only simulated.
	Simulated int `json:"simulated"`
	// Supervisor is the process that everything ends with, as the machine sees it.
	Supervisor int `json:"supervisor"`
	// Started is when that process started, in ticks since boot: its number may be another's later.
	Started uint64 `json:"started"`
}

// facts is what tests are told, in `testbed.json`.
type facts struct {
	place
	Kubeconfig string `json:"kubeconfig"`
	// Kubectl is the command that speaks to this cluster.
	Kubectl []string `json:"kubectl"`
	// Gateway is where Envoy serves port 80 of the Gateway `testbed/testbed`.
	Gateway string `json:"gateway"`
	// Host is the machine as pods see it.
	Host string `json:"host"`
	// Registries is where containerd looks for `HOST:PORT/hosts.toml`.
	Registries string `json:"registries"`
	// Node is the one whose pods really run.
	Node string `json:"node"`
	// Image is one that is on that node, with the programs that suites run.
	Image string `json:"image"`
	// Device and Group are what the machine sees of it: its link, and the control group of its pods.
	Device string `json:"device"`
	Group  string `json:"group"`
}

const (
	realNode    = "real"
	apiPort     = 6443
	gatewayPort = 8080
	networksMax = 16
	// clusterDomain is what names of services end in.
	clusterDomain = "cluster.local"
)

// The networks of a testbed: the link between machine and node, the pods', and the services'. None is in 10.208.0.0/12, where instances
// of a platform on this machine have theirs, nor in 10.192.0.0/12, where those of tests have.
func (p *place) link(host byte) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 224, byte(p.Network), host})
}
func (p *place) machine() netip.Addr    { return p.link(1) }
func (p *place) node() netip.Addr       { return p.link(2) }
func (p *place) links() netip.Prefix    { return netip.PrefixFrom(p.link(0), 24) }
func (p *place) pods() netip.Prefix     { return prefix(225, p.Network) }
func (p *place) services() netip.Prefix { return prefix(226, p.Network) }

func prefix(second byte, network int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second, byte(network * networksMax), 0}), 20)
}

// device is the machine's end of the link.
func (p *place) device() string { return fmt.Sprintf("tptestbed%d", p.Network) }

// group is the control group that all pods are in. No other directory's testbed has it, and of a directory one runs at a time.
func (p *place) group() string {
	hash := sha256.Sum256([]byte(p.Directory))
	return fmt.Sprintf("tappaas-testbed-%x", hash[:6])
}

func (p *place) file(names ...string) string {
	return filepath.Join(append([]string{p.Directory}, names...)...)
}

func (p *place) program(names ...string) string {
	return filepath.Join(append([]string{p.Programs}, names...)...)
}

func (p *place) api() string { return fmt.Sprintf("https://%s:%d", p.node(), apiPort) }

// pause is the image of what holds a pod's namespaces.
func (p *place) pause() (*image, error) {
	return makeImage(pauseRepository, p.program("pause"))
}

// suites is the image of what suites run.
func (p *place) suites() (*image, error) {
	return makeImage("testbed.local/programs", p.program("programs"),
		"cat", "echo", "env", "false", "fetch", "id", "rm", "sleep", "tee", "true")
}

func (p *place) facts(self string) (*facts, error) {
	suites, err := p.suites()
	if err != nil {
		return nil, err
	}
	return &facts{
		place:      *p,
		Kubeconfig: p.file("kubeconfig"),
		Kubectl:    []string{self, "kubectl", "--kubeconfig", p.file("kubeconfig")},
		Gateway:    fmt.Sprintf("http://%s:%d", p.node(), gatewayPort),
		Host:       p.machine().String(),
		Registries: p.file("registries"),
		Node:       realNode,
		Image:      suites.reference,
		Device:     p.device(),
		Group:      p.group(),
	}, nil
}

const factsName = "testbed.json"

func readFacts(directory string) (*facts, error) {
	content, err := os.ReadFile(filepath.Join(directory, factsName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	found := &facts{}
	if err := json.Unmarshal(content, found); err != nil {
		return nil, fmt.Errorf("%s is malformed: %w", factsName, err)
	}
	return found, nil
}

// writeJSON writes a file whole or not at all.
func writeJSON(path string, value any) error {
	content, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(path, append(content, '\n'))
}

func writeWhole(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	draft := path + ".new"
	if err := os.WriteFile(draft, content, 0o600); err != nil {
		return err
	}
	return os.Rename(draft, path)
}

// options reads the options that the verbs share.
func options(verb string, arguments []string) (*place, error) {
	p := &place{}
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.StringVar(&p.Directory, "dir", "", "where the testbed keeps everything")
	flags.StringVar(&p.Programs, "programs", "", "where contour, envoy, kwok and pause are")
	flags.IntVar(&p.Network, "network", -1, "which of the machine's testbeds this is")
	flags.IntVar(&p.Simulated, "nodes", 0, "how many nodes are only simulated")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if p.Directory == "" {
		return nil, fmt.Errorf("%s needs --dir", verb)
	}
	var err error
	if p.Directory, err = filepath.Abs(p.Directory); err != nil {
		return nil, err
	}
	if p.Programs, err = filepath.Abs(p.Programs); err != nil {
		return nil, err
	}
	return p, visible(p)
}

// hidden are folders that programs inside write to, each with a file system of its own over it.
var hidden = []string{"/run", "/var/lib", "/var/log"}

// visible refuses what would be hidden inside.
func visible(p *place) error {
	for _, folder := range []string{p.Directory, p.Programs} {
		real, err := filepath.EvalSymlinks(folder)
		if err != nil {
			// What is not there yet has no links.
			real = folder
		}
		for _, over := range hidden {
			if real == over || strings.HasPrefix(real, over+"/") {
				return fmt.Errorf("%s cannot be used: a testbed hides %s", folder, over)
			}
		}
	}
	return nil
}
