// Which parts of Kubernetes does this one program hold, and how is one of them started?
//
// The name it is called by (argv[0], or else its first argument) picks the part. build.sh makes a
// symlink for each name.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // the kubelet and CronJobs need time zones, a small machine may have none

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client request metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build_info metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// A part runs until it ends and returns the exit status of the process; args are those after its name.
type part func(args []string) int

var parts = map[string]part{
	"etcd":                    runEtcd,
	"kube-apiserver":          server(apiserver.NewAPIServerCommand),
	"kube-controller-manager": server(controllermanager.NewControllerManagerCommand),
	"kube-proxy":              server(proxy.NewProxyCommand),
	"kube-scheduler":          server(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 server(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":                 runKubectl,
	"cluster-pki":             runPKI,
}

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if _, known := parts[name]; !known && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	run, known := parts[name]
	if !known {
		fmt.Fprintf(os.Stderr, "usage: mountpod-cluster {%s} [ARGUMENT...]\n", strings.Join(names(), "|"))
		os.Exit(2)
	}
	os.Args = append([]string{name}, args...) // cobra reads its arguments from here
	os.Exit(run(args))
}

func names() []string {
	var all []string
	for name := range parts {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// server makes a part of one of Kubernetes' own server commands.
func server(command func() *cobra.Command) part {
	return func([]string) int { return cli.Run(command()) }
}

func runKubectl([]string) int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err) // prints as kubectl does, and exits
		return 1
	}
	return 0
}

// fail prints why a part of our own could not do its work; the result is its exit status.
func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
