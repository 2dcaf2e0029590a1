package kube

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// RuntimeKind says which container runtime a node uses, by the tools that
// speak to it.
type RuntimeKind string

// The kinds of container runtimes.
const (
	Docker     RuntimeKind = "docker" // dockershim or cri-dockerd: docker ps shows the containers
	Containerd RuntimeKind = "containerd"
	CRIO       RuntimeKind = "crio"
	OtherCRI   RuntimeKind = "cri" // another one: crictl works
)

// Runtime is the container runtime that kubelet uses.
type Runtime struct {
	Kind     RuntimeKind
	Endpoint string // for crictl, as in unix:///run/containerd/containerd.sock; "" for dockershim
	From     string // what told
}

// Socket returns the path of the runtime's socket, "" when there is none.
func (r Runtime) Socket() string {
	return strings.TrimPrefix(r.Endpoint, "unix://")
}

// DetectRuntime finds the container runtime in kubelet's flags and files, as
// kubelet itself would: the flag, then its configuration. A kubelet older than
// 1.24 without an endpoint uses docker.
func DetectRuntime(l Layout) (Runtime, error) {
	args := l.Kubelet.Args
	switch {
	case args.Value("container-runtime") == "docker":
		return Runtime{Kind: Docker, From: "--container-runtime"}, nil
	case args.Value("container-runtime-endpoint") != "":
		return runtimeAt(args.Value("container-runtime-endpoint"), "--container-runtime-endpoint")
	case l.Kubelet.Endpoint != "":
		return runtimeAt(l.Kubelet.Endpoint, "containerRuntimeEndpoint")
	}
	v, err := l.Version()
	if err != nil {
		return Runtime{}, errors.New("container runtime: kubelet's files name no endpoint and the cluster's version is not known")
	}
	if !v.AtLeast(24) {
		return Runtime{Kind: Docker, From: "no endpoint before 1.24"}, nil
	}
	return Runtime{}, errors.New("container runtime: kubelet's files name no endpoint: set containerRuntimeEndpoint in its configuration")
}

// socketForm is the path of a socket that can stand in a command: the file it
// comes from may hold anything.
var socketForm = regexp.MustCompile(`^/[A-Za-z0-9._/@+:,=-]{1,200}$`)

func runtimeAt(endpoint, from string) (Runtime, error) {
	r := Runtime{Kind: OtherCRI, From: from}
	socket := strings.TrimPrefix(endpoint, "unix://")
	if !socketForm.MatchString(socket) {
		return Runtime{}, fmt.Errorf("container runtime: %s: %q is not a unix socket", from, clip(endpoint))
	}
	r.Endpoint = "unix://" + path.Clean(socket)
	switch name := path.Base(socket); {
	case strings.Contains(name, "dockershim"):
		r.Kind, r.Endpoint = Docker, ""
	case strings.Contains(socket, "cri-dockerd"):
		r.Kind = Docker
	case strings.Contains(name, "containerd"):
		r.Kind = Containerd
	case strings.Contains(name, "crio"):
		r.Kind = CRIO
	}
	return r, nil
}
