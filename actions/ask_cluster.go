package actions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// clusterPatience bounds what is asked of the API server at once.
const clusterPatience = 20 * time.Second

// kubectl returns a request to the API; server is "" for that of the kubeconfig.
// --raw sends just that request: no discovery, which an aggregated API that is
// away delays, and no cache in the user's home. Some versions fetch the whole
// OpenAPI for that all the same, without --validate=false.
func kubectl(p engine.Probe, kubeconfig, server, verb, url string, body []byte) engine.Command {
	argv := []string{"kubectl", "--kubeconfig", p.Path(kubeconfig), "--request-timeout=10s"}
	if server != "" {
		argv = append(argv, "--server="+server)
	}
	argv = append(argv, verb, "--raw", url)
	if body != nil {
		argv = append(argv, "--validate=false", "-f", "-")
	}
	return engine.Command{Argv: argv, Stdin: body}
}

// errNoCluster says that a host is not one on which to ask the API server.
var errNoCluster = errors.New("no API server to ask from here")

// askCluster asks the API server of this host, else the one in admin.conf, for
// each path, as admin, all at once. What is asked must change nothing.
func askCluster(ctx context.Context, p engine.Probe, layout kube.Layout, paths ...string) ([][]byte, error) {
	const admin = kube.ConfigDir + "/admin.conf"
	switch {
	case p.Path("/") != "/" || layout.EtcdOnly:
		return nil, errNoCluster
	case !layout.Exists(admin):
		return nil, fmt.Errorf("there is no %s to ask the API server with", admin)
	}
	api, _ := layout.Pods.Component(kube.APIServer)
	ctx, cancel := context.WithTimeout(ctx, clusterPatience)
	defer cancel()
	answers := make([][]byte, len(paths))
	var ask []func() error
	for i, path := range paths {
		ask = append(ask, func() error {
			out, err := p.Query(ctx, kubectl(p, admin, api.Server(), "get", path, nil))
			answers[i] = out.Stdout
			return err
		})
	}
	if err := together(ask...); err != nil {
		return nil, briefly("kubectl get --raw", err)
	}
	return answers, nil
}

// briefly names a command that has failed by a few words instead of all of it.
func briefly(name string, err error) error {
	var exit *engine.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	said := firstWords([]byte(exit.Stderr))
	if said == "" {
		said = "no reason given"
	}
	return fmt.Errorf("%s: exit status %d: %s", name, exit.Code, said)
}
