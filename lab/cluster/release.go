package cluster

import (
	"fmt"
	"slices"
)

// release is a version of Kubernetes that a lab can have, and how it differs
// from the others.
type release struct {
	version string
	api     string // version of kubeadm's configuration
	pause   string // tag of the sandbox image
	etcd    string // tag that kubeadm expects of etcd's image
	docker  bool   // the nodes' container runtime is docker, not containerd
	kubelet string // further lines of the kubelet's configuration
}

// releases are those that there are, the default first.
func releases() []release {
	return []release{
		{version: "1.34.4", api: "v1beta4", pause: "3.10.1", etcd: "3.6.5-0", kubelet: "failCgroupV1: false\n"},
		// The last minor version that kubelet speaks to docker itself in.
		{version: "1.23.17", api: "v1beta3", pause: "3.6", etcd: "3.5.6-0", docker: true},
	}
}

// Versions returns the versions of Kubernetes that a lab can have, the default
// first.
func Versions() []string {
	var list []string
	for _, r := range releases() {
		list = append(list, r.version)
	}
	return list
}

// release returns that of the lab.
func (l *Lab) release() release {
	all := releases()
	return all[slices.IndexFunc(all, func(r release) bool { return r.version == l.Version })] // Open has looked
}

// runtime is how the lab speaks to its nodes' container runtime.
type runtime struct {
	service string   // that must be active
	socket  string   // that kubeadm is told
	load    []string // the command that imports an archive of images
	halt    string   // the script that ends all containers
}

func (r release) runtime() runtime {
	if r.docker {
		return runtime{service: "docker", socket: "/var/run/dockershim.sock", load: []string{"docker", "load", "-q", "-i"}, halt: `
docker ps -q | xargs -r docker kill -s KILL >/dev/null 2>&1 || :
docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1 || :
`}
	}
	return runtime{service: "containerd", socket: "unix:///run/containerd/containerd.sock", load: []string{"ctr", "-n", "k8s.io", "images", "import"}, halt: `
ctr=/usr/bin/ctr
for task in $($ctr -n k8s.io tasks list -q); do
	$ctr -n k8s.io tasks kill -a -s SIGKILL "$task" 2>/dev/null || :
done
tries=50
while $ctr -n k8s.io tasks list | grep -q RUNNING; do
	tries=$((tries - 1))
	[ "$tries" != 0 ] || { echo "these do not end:" >&2; $ctr -n k8s.io tasks list >&2; exit 1; }
	sleep 0.2
done
$ctr -n k8s.io tasks list -q | xargs -r $ctr -n k8s.io tasks delete -f >/dev/null 2>&1 || :
$ctr -n k8s.io containers list -q | xargs -r $ctr -n k8s.io containers delete >/dev/null 2>&1 || :
systemctl restart containerd
`}
}

// Image returns the name that a program's image has in the lab.
func (l *Lab) Image(program string) string {
	r := l.release()
	tag := "v" + r.version
	switch program {
	case "pause":
		tag = r.pause
	case "etcd":
		tag = r.etcd
	}
	return fmt.Sprintf("registry.k8s.io/%s:%s", program, tag)
}
