package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// start starts everything, in the order in which one needs the other, and says what is there.
func start(p *place, all *processes, say io.Writer) error {
	for _, part := range []struct {
		name  string
		start func(*place, *processes) error
	}{
		{"etcd", startEtcd},
		{"API server", startAPI},
		{"controllers and scheduler", startControllers},
		{"names", startNames},
		{"container runtime", startContainerd},
		{"node", startNode},
		{"simulated nodes", startSimulated},
		{"gateway", startGateway},
	} {
		began := time.Now()
		if err := part.start(p, all); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		// Who started this may have gone; then nobody would ever end it.
		if _, err := fmt.Fprintf(say, "%-26s %5.1f s\n", part.name, time.Since(began).Seconds()); err != nil {
			return err
		}
	}
	return nil
}

func startEtcd(p *place, all *processes) error {
	const client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	// What a testbed holds is nobody's: it need not survive a power cut.
	err := all.component("etcd", "--data-dir", p.file("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	if err != nil {
		return err
	}
	return all.until("etcd", func() error { return ask(client + "/health") })
}

func startAPI(p *place, all *processes) error {
	err := all.component("kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0",
		"--advertise-address="+p.node().String(),
		"--secure-port="+strconv.Itoa(apiPort),
		"--tls-cert-file="+p.file("pki", "apiserver.crt"),
		"--tls-private-key-file="+p.file("pki", "apiserver.key"),
		"--token-auth-file="+p.file("pki", "tokens.csv"),
		"--authorization-mode=RBAC",
		"--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+p.file("pki", "accounts.key"),
		"--service-account-signing-key-file="+p.file("pki", "accounts.key"),
		"--service-cluster-ip-range="+p.services().String(),
		"--kubelet-preferred-address-types=InternalIP",
	)
	if err != nil {
		return err
	}
	return all.until("kube-apiserver", func() error {
		return all.kubectl("get", "--raw", "/readyz")
	})
}

func startControllers(p *place, all *processes) error {
	kubeconfig := "--kubeconfig=" + p.file("kubeconfig")
	if err := all.component("kube-controller-manager", kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+p.file("pki", "accounts.key"),
		"--root-ca-file="+p.file("pki", "authority.crt"),
		// With two cores its view of slices lags behind their pods. Each look too early doubles the time until the next, up to a quarter
		// of an hour in which a service leads to pods that are gone; so that changes are gathered before it looks.
		"--endpointslice-updates-batch-period=500ms",
	); err != nil {
		return err
	}
	if err := all.component("kube-scheduler", kubeconfig, "--leader-elect=false", "--secure-port=0"); err != nil {
		return err
	}
	// Its last act at a start; without it pods have no account.
	return all.until("kube-controller-manager", func() error {
		return all.kubectl("get", "serviceaccount", "default")
	})
}

func startNames(p *place, all *processes) error {
	dns := exec.Command(p.program("dns"), "-conf", p.program("Corefile"))
	dns.Env = append(os.Environ(), "KUBECONFIG="+p.file("kubeconfig"))
	if err := all.start("dns", dns); err != nil {
		return err
	}
	resolver := net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, netip.AddrPortFrom(p.node(), 53).String())
		},
	}
	return all.until("dns", func() error {
		_, err := resolver.LookupHost(context.Background(), "kubernetes.default.svc."+clusterDomain+".")
		return err
	})
}

func startContainerd(p *place, all *processes) error {
	err := all.start("containerd", exec.Command("containerd", "--config", p.file("containerd.toml")))
	if err != nil {
		return err
	}
	ctr := func(words ...string) *exec.Cmd {
		return exec.Command("ctr", append([]string{"--address", containerdSocket, "--namespace", "k8s.io"}, words...)...)
	}
	err = all.until("containerd", func() error { return all.run(ctr("version")) })
	if err != nil {
		return err
	}
	for _, make := range []func() (*image, error){p.pause, p.suites} {
		made, err := make()
		if err != nil {
			return err
		}
		archive := p.file("image.tar")
		if err := writeWhole(archive, made.archive); err != nil {
			return err
		}
		// By its tag, and by its digest.
		if err := all.run(ctr("images", "import", "--digests", "--base-name", made.repository, archive)); err != nil {
			return err
		}
	}
	return nil
}

func startNode(p *place, all *processes) error {
	kubeconfig := "--kubeconfig=" + p.file("kubeconfig")
	if err := all.component("kubelet", kubeconfig,
		"--config="+p.file("kubelet.json"),
		"--hostname-override="+realNode,
		"--node-ip="+p.node().String(),
	); err != nil {
		return err
	}
	if err := all.component("kube-proxy", kubeconfig,
		"--hostname-override="+realNode,
		"--proxy-mode=nftables",
		"--cluster-cidr="+p.pods().String(),
		// Those are settings of the whole machine.
		"--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0",
		"--conntrack-tcp-timeout-close-wait=0",
	); err != nil {
		return err
	}
	return all.until("kubelet", func() error {
		return all.kubectl("wait", "node/"+realNode, "--for=condition=Ready", "--timeout=1s")
	})
}

func startSimulated(p *place, all *processes) error {
	if p.Simulated == 0 {
		return nil
	}
	stages, err := filepath.Glob(p.program("kwok-stages", "*.yaml"))
	if err != nil {
		return err
	}
	arguments := []string{
		"--kubeconfig", p.file("kubeconfig"),
		"--manage-nodes-with-label-selector=" + simulatedLabel + "=true",
		// Without leases nodes are thought lost after a minute, and everything on them unready.
		"--node-lease-duration-seconds=40",
	}
	for _, stage := range stages {
		arguments = append(arguments, "--config", stage)
	}
	if err := all.start("kwok", exec.Command(p.program("kwok"), arguments...)); err != nil {
		return err
	}
	if err := all.apply(simulatedNodes(p.Simulated)); err != nil {
		return err
	}
	return all.until("kwok", func() error {
		return all.kubectl("wait", "node", "--selector="+simulatedLabel, "--for=condition=Ready", "--timeout=1s")
	})
}

func startGateway(p *place, all *processes) error {
	for _, definitions := range []string{"gateway-crds", "contour-crds"} {
		if err := all.kubectl("apply", "--server-side", "--filename", p.program(definitions)); err != nil {
			return err
		}
	}
	config := p.file("contour.json")
	if err := writeJSON(config, contourConfig()); err != nil {
		return err
	}
	// The namespace first; the rest waits for it.
	if err := all.apply(gatewayObjects()); err != nil {
		return err
	}
	contour := exec.Command(p.program("contour"), "serve", "--insecure", "--kubeconfig", p.file("kubeconfig"),
		"--xds-address=127.0.0.1", "--xds-port=8001", "--config-path="+config, "--disable-leader-election")
	if err := all.start("contour", contour); err != nil {
		return err
	}
	bootstrap := p.file("envoy.json")
	if err := all.run(exec.Command(p.program("contour"), "bootstrap", bootstrap,
		"--xds-address=127.0.0.1", "--xds-port=8001", "--admin-address=/run/envoy-admin.sock")); err != nil {
		return err
	}
	envoy := exec.Command(p.program("envoy"), "--config-path", bootstrap,
		"--service-cluster", "testbed", "--service-node", "testbed", "--log-level", "warning", "--concurrency", "1")
	if err := all.start("envoy", envoy); err != nil {
		return err
	}
	return all.until("contour", func() error {
		return all.kubectl("wait", "gateway/"+gatewayName, "--namespace="+gatewayNamespace, "--for=condition=Programmed", "--timeout=1s")
	})
}

// kubectl runs this program's own.
func (all *processes) kubectl(words ...string) error {
	return all.run(all.kubectlCommand(words...))
}

func (all *processes) kubectlCommand(words ...string) *exec.Cmd {
	return exec.Command("/proc/self/exe", append([]string{"kubectl", "--kubeconfig", all.place.file("kubeconfig")}, words...)...)
}

// apply makes objects, which are written as JSON to a file first.
func (all *processes) apply(objects []any) error {
	path := all.place.file("apply.json")
	list := map[string]any{"apiVersion": "v1", "kind": "List", "items": objects}
	if err := writeJSON(path, list); err != nil {
		return err
	}
	return all.kubectl("apply", "--server-side", "--filename", path)
}

func ask(url string) error {
	client := http.Client{
		Timeout:   time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{}},
	}
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
