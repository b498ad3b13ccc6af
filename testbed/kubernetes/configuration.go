package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/csv"
	"os"
	"time"

	"github.com/pelletier/go-toml/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	pauseRepository  = "testbed.local/pause"
	pauseImage       = pauseRepository + ":1"
)

// configure writes what the components read.
func configure(p *place) error {
	token, err := newToken()
	if err != nil {
		return err
	}
	for _, write := range []func() error{
		func() error { return makeCertificates(p) },
		func() error { return writeTokens(p, token) },
		func() error { return writeKubeconfig(p, token) },
		func() error { return writeKubelet(p) },
		func() error { return writeContainerd(p) },
		func() error { return writeJSON(p.file("cni", "10-testbed.conflist"), podNetwork(p)) },
		func() error { return os.MkdirAll(p.file("registries"), 0o755) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

func newToken() (string, error) {
	secret := make([]byte, 24)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(secret), nil
}

// writeTokens makes whoever has the token an administrator.
func writeTokens(p *place, token string) error {
	var lines bytes.Buffer
	writer := csv.NewWriter(&lines)
	if err := writer.Write([]string{token, "administrator", "1", "system:masters"}); err != nil {
		return err
	}
	writer.Flush()
	return writeWhole(p.file("pki", "tokens.csv"), lines.Bytes())
}

func writeKubeconfig(p *place, token string) error {
	const name = "testbed"
	config := clientcmdapi.NewConfig()
	authority, err := os.ReadFile(p.file("pki", "authority.crt"))
	if err != nil {
		return err
	}
	config.Clusters[name] = &clientcmdapi.Cluster{Server: p.api(), CertificateAuthorityData: authority}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, p.file("kubeconfig"))
}

// writeKubelet makes a kubelet run where control groups are those of another system, and nobody may raise limits.
func writeKubelet(p *place) error {
	no, yes := false, true
	return writeJSON(p.file("kubelet.json"), kubeletconfig.KubeletConfiguration{
		TypeMeta:                 metav1.TypeMeta{APIVersion: "kubelet.config.k8s.io/v1beta1", Kind: "KubeletConfiguration"},
		Authentication:           kubeletconfig.KubeletAuthentication{Anonymous: kubeletconfig.KubeletAnonymousAuthentication{Enabled: &yes}, Webhook: kubeletconfig.KubeletWebhookAuthentication{Enabled: &no}},
		Authorization:            kubeletconfig.KubeletAuthorization{Mode: kubeletconfig.KubeletAuthorizationModeAlwaysAllow},
		CgroupDriver:             "cgroupfs",
		CgroupRoot:               "/" + p.group(),
		CgroupsPerQOS:            &yes,
		ClusterDNS:               []string{p.node().String()},
		ClusterDomain:            clusterDomain,
		ContainerRuntimeEndpoint: "unix://" + containerdSocket,
		EnforceNodeAllocatable:   []string{"none"},
		EvictionHard:             map[string]string{"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
		FailCgroupV1:             &no,
		// Restarts begin a second apart, not ten.
		FeatureGates:                  map[string]bool{"ReduceDefaultCrashLoopBackOffDecay": true},
		FailSwapOn:                    &no,
		LocalStorageCapacityIsolation: &no,
		NodeStatusUpdateFrequency:     metav1.Duration{Duration: 5 * time.Second},
		RegistryPullQPS:               new(int32),
		// There is nobody to ask for names outside.
		ResolverConfig:      new(string),
		SerializeImagePulls: &no,
		SyncFrequency:       metav1.Duration{Duration: 10 * time.Second},
	})
}

// writeContainerd sets up containerd 1.6 or later (configuration version 2).
func writeContainerd(p *place) error {
	type table = map[string]any
	content, err := toml.Marshal(table{
		"version": 2,
		"root":    p.file("containerd"),
		"state":   "/run/containerd",
		"grpc":    table{"address": containerdSocket},
		"plugins": table{"io.containerd.grpc.v1.cri": table{
			// Who may not lower its own score may not give one to others.
			"restrict_oom_score_adj": true,
			"disable_apparmor":       true,
			"sandbox_image":          pauseImage,
			"containerd": table{
				// Overlays of overlays are not everywhere.
				"snapshotter":          "native",
				"default_runtime_name": "runc",
				"runtimes": table{"runc": table{
					"runtime_type": "io.containerd.runc.v2",
					"options":      table{"SystemdCgroup": false},
				}},
			},
			"cni":      table{"bin_dir": "/usr/lib/cni", "conf_dir": p.file("cni")},
			"registry": table{"config_path": p.file("registries")},
		}},
	})
	if err != nil {
		return err
	}
	return writeWhole(p.file("containerd.toml"), content)
}

// podNetwork is a bridge, from which pods reach each other, the node and the machine.
func podNetwork(p *place) any {
	type object = map[string]any
	return object{
		"cniVersion": "1.0.0",
		"name":       "testbed",
		"plugins": []object{
			{
				"type":             "bridge",
				"bridge":           "pods",
				"isGateway":        true,
				"isDefaultGateway": true,
				"ipam": object{
					"type":    "host-local",
					"dataDir": "/run/cni",
					"ranges":  [][]object{{{"subnet": p.pods().String()}}},
				},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
			{"type": "loopback"},
		},
	}
}
