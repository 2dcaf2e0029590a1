package actions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/engine/host/hosttest"
)

// container is a container of a fakeNode, as crictl lists it.
type container struct {
	id, name, pod, namespace, uid string
	created                       time.Time
}

// fakeNode is a fake host with kubeadm's manifests, a kubelet that starts a new
// container for each one that is stopped, and the tools that speak to it.
type fakeNode struct {
	*hosttest.Fake
	tools      []string // that are installed
	containers []container
	next       int
	sick       map[string]bool   // components that come back unhealthy
	dead       bool              // kubelet: what is stopped does not come back
	facts      string            // what the preflight script prints
	kubeadm    string            // version of kubeadm, "" when there is none
	armed      bool              // the dead man's switch
	out        string            // the component whose manifest is moved out
	vanishes   bool              // a container of somebody else's, while docker is asked
	logs       map[string]string // by component, the end of what it has logged
	did        []string          // what was stopped and moved, in order
	api        map[string]string // the API server's answers by path; an empty list for the others
	noAPI      string            // why kubectl gets no answer
	etcdctl    map[string]string // its answers in etcd's container, by subcommand; it fails for the others
}

// healthURLs are where the components of testdata answer.
var healthURLs = map[string]string{
	"etcd":                    "http://127.0.0.1:2381/health",
	"kube-apiserver":          "https://172.30.0.11:6443/readyz",
	"kube-controller-manager": "https://127.0.0.1:10257/healthz",
	"kube-scheduler":          "https://127.0.0.1:10259/readyz",
}

func newNode(t *testing.T, tools ...string) *fakeNode {
	t.Helper()
	n := &fakeNode{Fake: hosttest.NewFake(), tools: tools, sick: map[string]bool{}}
	n.Put("/var/lib/kubelet/config.yaml", []byte("kind: KubeletConfiguration\nstaticPodPath: /etc/kubernetes/manifests\ncontainerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n"))
	for _, f := range []string{"pki/apiserver.crt", "pki/etcd/server.crt", "controller-manager.conf", "scheduler.conf"} {
		n.Put("/etc/kubernetes/"+f, []byte("x"))
	}
	n.Advance(time.Minute)
	for c, url := range healthURLs {
		manifest, err := os.ReadFile("kube/testdata/manifests/" + c + ".yaml")
		require.NoError(t, err)
		n.Put("/etc/kubernetes/manifests/"+c+".yaml", manifest)
		n.start(c, c+"-m1", "kube-system", "0123456789abcdef0123456789abcdef")
		n.Answer(url, func() (engine.Response, error) {
			if n.out == c {
				return engine.Response{}, errors.New("connection refused")
			}
			if n.sick[c] {
				return engine.Response{Status: 500, Body: []byte("not yet")}, nil
			}
			return engine.Response{Status: 200, Body: []byte("ok")}, nil
		})
	}
	n.Advance(time.Second)
	// Others that look alike and are younger.
	n.start("kube-apiserver", "etcd-operator-kube-apiserver-x", "kube-system", "01234567-89ab-cdef-0123-456789abcdef")
	n.start("kube-apiserver", "kube-apiserver-twin", "default", "0123456789abcdef0123456789abcdef")
	n.start("kube-apiserver-proxy", "kube-apiserver-proxy", "kube-system", "0123456789abcdef0123456789abcdef")
	n.Handle("sh", n.shell)
	n.Handle("crictl", n.crictl)
	n.Handle("docker", n.docker)
	n.Handle("mv", n.move)
	n.Handle("kubectl", n.kubectl)
	n.Handle("kubeadm", func(context.Context, engine.Command) (engine.Output, error) {
		if n.kubeadm == "" {
			return engine.Output{Code: 127, Stderr: []byte("kubeadm: not found")}, nil
		}
		return engine.Output{Stdout: []byte(n.kubeadm + "\n")}, nil
	})
	return n
}

func (n *fakeNode) start(name, pod, namespace, uid string) {
	now, _ := n.Now(context.Background())
	n.next++
	n.containers = append(n.containers, container{fmt.Sprintf("%064x", n.next), name, pod, namespace, uid, now})
}

// shell answers which tool is installed, and the preflight script.
func (n *fakeNode) shell(_ context.Context, c engine.Command) (engine.Output, error) {
	if c.Argv[2] == preflightScript {
		return engine.Output{Stdout: []byte(n.facts)}, nil
	}
	if c.Argv[2] == lastLines {
		return engine.Output{Stdout: []byte(n.logs[c.Argv[5]])}, nil
	}
	if c.Argv[2] == armScript || c.Argv[2] == disarmScript {
		n.armed = c.Argv[2] == armScript
		return engine.Output{Stdout: []byte("process 4711\n")}, nil
	}
	for _, tool := range c.Argv[4:] {
		if slices.Contains(n.tools, tool) {
			return engine.Output{Stdout: []byte(tool + "\n")}, nil
		}
	}
	return engine.Output{Stdout: []byte("\n")}, nil
}

// kubectl answers requests for a path.
func (n *fakeNode) kubectl(_ context.Context, c engine.Command) (engine.Output, error) {
	if n.noAPI != "" {
		return engine.Output{Code: 1, Stderr: []byte(n.noAPI + "\n")}, nil
	}
	path := c.Argv[len(c.Argv)-1]
	return engine.Output{Stdout: []byte(cmp.Or(n.api[path], `{"kind":"List","apiVersion":"v1","metadata":{"resourceVersion":"87"},"items":[]}`))}, nil
}

// runEtcdctl is etcdctl in the container of etcd: it exits with 1 when a member is
// not healthy.
func (n *fakeNode) runEtcdctl(id string, argv []string) (engine.Output, error) {
	i := slices.IndexFunc(n.containers, func(c container) bool { return c.id == id })
	if i < 0 || n.containers[i].pod != "etcd-m1" || argv[0] != "etcdctl" {
		return engine.Output{}, fmt.Errorf("no etcdctl in %s", id)
	}
	said, ok := n.etcdctl[strings.Join(argv[len(argv)-2:], " ")]
	if !ok {
		return engine.Output{Code: 1, Stderr: []byte("Error: context deadline exceeded\n")}, nil
	}
	out := engine.Output{Stdout: []byte(said)}
	if strings.Contains(said, `"health":false`) {
		out.Code, out.Stderr = 1, []byte("Error: unhealthy cluster\n")
	}
	return out, nil
}

func (n *fakeNode) crictl(_ context.Context, c engine.Command) (engine.Output, error) {
	if c.Argv[3] == "stop" {
		return engine.Output{}, n.stop(c.Argv[len(c.Argv)-1])
	}
	if c.Argv[3] == "exec" {
		return n.runEtcdctl(c.Argv[4], c.Argv[5:])
	}
	var list []map[string]any
	for _, c := range n.containers {
		list = append(list, map[string]any{
			"id": c.id, "state": "CONTAINER_RUNNING", "createdAt": strconv.FormatInt(c.created.UnixNano(), 10),
			"labels": map[string]string{
				"io.kubernetes.container.name": c.name, "io.kubernetes.pod.name": c.pod,
				"io.kubernetes.pod.namespace": c.namespace, "io.kubernetes.pod.uid": c.uid,
			},
		})
	}
	out, err := json.Marshal(map[string]any{"containers": list})
	return engine.Output{Stdout: out}, err
}

// docker speaks of the same containers as docker does.
func (n *fakeNode) docker(_ context.Context, c engine.Command) (engine.Output, error) {
	switch c.Argv[1] {
	case "ps":
		var ids strings.Builder
		for _, one := range n.containers { // docker compares labels exactly
			if slices.Contains(c.Argv, "label=io.kubernetes.pod.namespace="+one.namespace) {
				fmt.Fprintln(&ids, one.id)
			}
		}
		return engine.Output{Stdout: []byte(ids.String())}, nil
	case "stop":
		return engine.Output{}, n.stop(c.Argv[len(c.Argv)-1])
	case "exec":
		return n.runEtcdctl(c.Argv[2], c.Argv[3:])
	}
	var list []map[string]any
	for _, one := range n.containers {
		if slices.Contains(c.Argv, one.id) {
			at := one.created.UTC().Format(time.RFC3339Nano)
			list = append(list, map[string]any{
				"Id": one.id, "Created": at, "Name": "/k8s_" + one.name + "_" + one.pod + "_kube-system_" + one.uid + "_0",
				"State": map[string]any{"Status": "running", "Pid": 42, "StartedAt": at},
				"Config": map[string]any{"Labels": map[string]string{
					"io.kubernetes.docker.type": "container", "io.kubernetes.container.name": one.name, "io.kubernetes.pod.name": one.pod,
					"io.kubernetes.pod.namespace": one.namespace, "io.kubernetes.pod.uid": one.uid,
				}},
			})
		}
	}
	out, err := json.Marshal(list)
	if n.vanishes { // between the two commands
		return engine.Output{Stdout: out, Stderr: []byte("Error: No such container: 0123456789ab"), Code: 1}, err
	}
	return engine.Output{Stdout: out}, err
}

// stop lets the kubelet start a new container a second later.
func (n *fakeNode) stop(id string) error {
	i := slices.IndexFunc(n.containers, func(c container) bool { return c.id == id })
	if i < 0 {
		return fmt.Errorf("no container %s", id)
	}
	old := n.containers[i]
	n.did = append(n.did, "stop "+old.pod)
	n.containers = slices.Delete(n.containers, i, i+1)
	n.Advance(time.Second)
	if !n.dead {
		n.start(old.name, old.pod, old.namespace, old.uid)
	}
	return nil
}

// move moves a manifest; the kubelet starts or removes its container.
func (n *fakeNode) move(ctx context.Context, c engine.Command) (engine.Output, error) {
	from, to := c.Argv[len(c.Argv)-2], c.Argv[len(c.Argv)-1]
	file, ok := n.File(from)
	if !ok {
		return engine.Output{Code: 1, Stderr: []byte("mv: no " + from)}, nil
	}
	n.Remove(from)
	n.PutFile(to, file)
	name := strings.TrimSuffix(from[strings.LastIndexAny(from, "/@")+1:], ".yaml")
	if strings.HasPrefix(to, "/etc/kubernetes/manifests/") {
		n.did = append(n.did, "in "+name)
		n.out = ""
		n.Advance(time.Second)
		n.start(name, name+"-m1", "kube-system", "fedcba9876543210fedcba9876543210")
		return engine.Output{}, nil
	}
	if !n.armed {
		return engine.Output{}, errors.New("a manifest is moved out without a switch")
	}
	n.did = append(n.did, "out "+name)
	n.out = name
	n.containers = slices.DeleteFunc(n.containers, func(c container) bool { return c.pod == name+"-m1" && c.namespace == "kube-system" })
	return engine.Output{}, nil
}

// renewed writes a file anew, later than the containers have begun.
func (n *fakeNode) renewed(files ...string) {
	n.Advance(time.Minute)
	for _, f := range files {
		n.Put("/etc/kubernetes/"+f, []byte("y"))
	}
}
