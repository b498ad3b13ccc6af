// Command testbed is a whole Kubernetes cluster in one program: control plane, one node whose pods really run, simulated nodes, and a
// gateway. Everything it starts lives in mount, network and process namespaces of its own, and ends with them.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// components are Kubernetes' own programs, each started as a process of its own by its name.
var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

// verbs are what a person or a test asks for.
var verbs = map[string]func(arguments []string) error{
	"up":     up,
	"down":   down,
	"status": status,
	// Started by `up`, as the first process of the namespaces.
	"inside": inside,
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: testbed up|down|status [OPTIONS], or the name of a component of Kubernetes"))
	}
	name := os.Args[1]
	if name == "etcd" {
		etcdmain.Main(os.Args[1:])
		return
	}
	if component, known := components[name]; known {
		os.Args = os.Args[1:]
		os.Exit(cli.Run(component()))
	}
	verb, known := verbs[name]
	if !known {
		fail(fmt.Errorf("%q is neither a verb nor a component", name))
	}
	if err := verb(os.Args[2:]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "testbed:", err)
	os.Exit(1)
}
