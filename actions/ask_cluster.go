package actions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// clusterPatience bounds what is asked of the API server at once.
const clusterPatience = 20 * time.Second

// clusterScript prints what the API server answers for each path, one JSON
// document after the other, until it does not. $1 is a kubeconfig, $2 a server
// or empty for the kubeconfig's own.
const clusterScript = `conf=$1
server=$2
shift 2
command -v kubectl >/dev/null 2>&1 || { echo "there is no kubectl" >&2; exit 127; }
for path; do
  kubectl --kubeconfig "$conf" ${server:+"--server=$server"} --request-timeout=5s get --raw "$path" || exit
  echo
done`

// errNoCluster says that a host is not one on which to ask the API server.
var errNoCluster = errors.New("no API server to ask from here")

// askCluster asks the API server of this host, else the one in admin.conf, as
// admin, in one round trip. What is asked must change nothing.
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
	out, err := p.Query(ctx, engine.Command{Argv: append([]string{"sh", "-c", clusterScript, "sh", admin, api.Server()}, paths...)})
	if err != nil {
		return nil, briefly("kubectl get --raw", err)
	}
	var answers [][]byte
	documents := json.NewDecoder(bytes.NewReader(out.Stdout))
	for range paths {
		var one json.RawMessage
		if err := documents.Decode(&one); err != nil {
			return nil, fmt.Errorf("kubectl get --raw: not JSON: %w", err)
		}
		answers = append(answers, one)
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
