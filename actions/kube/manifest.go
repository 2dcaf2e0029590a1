package kube

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Names of the static pods' containers that kubeadm lays out, in the order in
// which they are restarted.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

// Components lists the control plane's containers in restart order.
func Components() []string {
	return []string{Etcd, APIServer, ControllerManager, Scheduler}
}

// ErrNoManifest says that a file is valid YAML or text but not a v1 Pod.
var ErrNoManifest = errors.New("not a v1 Pod")

// Manifest is one static pod as its file describes it.
type Manifest struct {
	Path        string
	Pod         string // metadata.name, without the node's name that kubelet adds
	Namespace   string
	Component   string // the container's name
	Image       string
	Args        Args // of the container: what follows the program in command, and args
	HostNetwork bool
	HostPaths   []string // what the pod mounts from the host, sorted

	probes map[string]httpProbe // livenessProbe, readinessProbe, startupProbe
}

type httpProbe struct{ scheme, host, port, path string }

const maxContainers = 64

// containerName is what Kubernetes takes for the name of a container.
var containerName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ParseManifest reads a static pod's manifest (YAML or JSON). Of several
// containers it is the one named like the pod's component label or the pod
// itself, else the first. A document of another kind is ErrNoManifest.
func ParseManifest(file string, data []byte) (Manifest, error) {
	root, err := parseYAML(data)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest %q: %v", file, err)
	}
	if text(root, "kind") != "Pod" || text(root, "apiVersion") != "v1" {
		return Manifest{}, fmt.Errorf("manifest %q: %w", file, ErrNoManifest)
	}
	m := Manifest{
		Path:        file,
		Pod:         text(root, "metadata", "name"),
		Namespace:   text(root, "metadata", "namespace"),
		HostNetwork: text(root, "spec", "hostNetwork") == "true",
	}
	containers := items(root, "spec", "containers")
	if len(containers) == 0 || len(containers) > maxContainers {
		return Manifest{}, fmt.Errorf("manifest %q: %d containers, want 1 to %d", file, len(containers), maxContainers)
	}
	c := mainContainer(containers, text(root, "metadata", "labels", "component"), m.Pod)
	m.Component, m.Image = text(c, "name"), text(c, "image")
	switch {
	case m.Component == "":
		return Manifest{}, fmt.Errorf("manifest %q: the container has no name", file)
	case !containerName.MatchString(m.Component):
		return Manifest{}, fmt.Errorf("manifest %q: %q is not the name of a container", file, clip(m.Component))
	}
	m.Args = commandArgs(texts(c, "command"), texts(c, "args"))
	m.probes = httpProbes(c)
	for _, v := range items(root, "spec", "volumes") {
		if p := text(v, "hostPath", "path"); p != "" {
			m.HostPaths = append(m.HostPaths, path.Clean(p))
		}
	}
	slices.Sort(m.HostPaths)
	return m, nil
}

func mainContainer(containers []*yaml.Node, names ...string) *yaml.Node {
	for _, name := range names {
		for _, c := range containers {
			if name != "" && text(c, "name") == name {
				return c
			}
		}
	}
	return containers[0]
}

// commandArgs drops the program. The words of a script given to sh -c count
// as arguments.
func commandArgs(command, args []string) Args {
	words := slices.Concat(command, args)
	if len(words) > maxWords {
		words = words[:maxWords]
	}
	if len(words) > 2 && strings.HasSuffix(words[0], "sh") && words[1] == "-c" {
		return Args(strings.Fields(words[2]))
	}
	if len(command) > 0 {
		words = words[1:]
	}
	return Args(words)
}

func httpProbes(c *yaml.Node) map[string]httpProbe {
	ports := map[string]string{}
	for _, p := range items(c, "ports") {
		ports[text(p, "name")] = text(p, "containerPort")
	}
	out := map[string]httpProbe{}
	for _, kind := range []string{"livenessProbe", "readinessProbe", "startupProbe"} {
		get := get(c, kind, "httpGet")
		if get == nil {
			continue
		}
		p := httpProbe{scheme: strings.ToLower(text(get, "scheme")), host: text(get, "host"), port: text(get, "port"), path: text(get, "path")}
		if named, ok := ports[p.port]; ok && p.port != "" {
			p.port = named
		}
		if p.scheme == "" {
			p.scheme = "http"
		}
		out[kind] = p
	}
	return out
}

// Mounts says whether the pod mounts file, or a directory above it, from the
// host.
func (m Manifest) Mounts(file string) bool {
	return slices.ContainsFunc(m.HostPaths, func(p string) bool {
		return p == file || p == "/" || strings.HasPrefix(file, p+"/")
	})
}

// Version returns the version in the image's tag, as in
// registry.k8s.io/kube-apiserver:v1.34.4.
func (m Manifest) Version() (Version, error) {
	image, _, _ := strings.Cut(m.Image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return ParseVersion(image[i+1:])
	}
	return Version{}, fmt.Errorf("image %q has no version tag", m.Image)
}

// Pods are the static pods of one manifests directory.
type Pods struct {
	Manifests  []Manifest
	Duplicates []string // two files for the same pod: kubelet runs one of them or both, in turns
	Unreadable []string // files that kubelet reads as well, but that are no manifest: path and reason
}

// ParsePods reads the files of the manifests directory dir. As kubelet does,
// it passes over dotfiles and directories and takes every other file, whatever
// its name ends in, so a backup left there shows up as a duplicate.
func ParsePods(dir string, files []File) Pods {
	var pods Pods
	first := map[string]string{}
	for _, f := range files {
		if path.Dir(f.Path) != path.Clean(dir) || strings.HasPrefix(path.Base(f.Path), ".") || f.Mode.IsDir() {
			continue
		}
		if f.Err != "" {
			pods.Unreadable = append(pods.Unreadable, fmt.Sprintf("%s: %s", f.Path, f.Err))
			continue
		}
		m, err := ParseManifest(f.Path, f.Data)
		if err != nil {
			pods.Unreadable = append(pods.Unreadable, err.Error())
			continue
		}
		key := m.Namespace + "/" + m.Component
		if before, ok := first[key]; ok {
			pods.Duplicates = append(pods.Duplicates, fmt.Sprintf("%s and %s both describe %s", before, f.Path, m.Component))
		} else {
			first[key] = f.Path
		}
		pods.Manifests = append(pods.Manifests, m)
	}
	return pods
}

// Component returns the manifest of a container's name. Of several it is the
// first whose file has that name, else the first.
func (p Pods) Component(name string) (Manifest, bool) {
	found, ok := Manifest{}, false
	for _, m := range p.Manifests {
		if m.Component != name {
			continue
		}
		if path.Base(m.Path) == name+".yaml" {
			return m, true
		}
		if !ok {
			found, ok = m, true
		}
	}
	return found, ok
}
