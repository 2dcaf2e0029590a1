package kube

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDetectRuntime(t *testing.T) {
	tests := map[string]struct {
		flags, config, instance, image string
		want                           Runtime
		err                            string
	}{
		"configuration":    {"", "unix:///run/containerd/containerd.sock", "", "", Runtime{Containerd, "unix:///run/containerd/containerd.sock", "containerRuntimeEndpoint"}, ""},
		"flag wins":        {"--container-runtime-endpoint=unix:///var/run/crio/crio.sock", "unix:///run/containerd/containerd.sock", "", "", Runtime{CRIO, "unix:///var/run/crio/crio.sock", "--container-runtime-endpoint"}, ""},
		"bare path":        {"--container-runtime=remote --container-runtime-endpoint /run/containerd/containerd.sock", "", "", "", Runtime{Containerd, "unix:///run/containerd/containerd.sock", "--container-runtime-endpoint"}, ""},
		"instance wins":    {"", "unix:///run/containerd/containerd.sock", "unix:///var/run/crio/crio.sock", "", Runtime{CRIO, "unix:///var/run/crio/crio.sock", "containerRuntimeEndpoint"}, ""},
		"cri-dockerd":      {"--container-runtime-endpoint=unix:///var/run/cri-dockerd.sock", "", "", "", Runtime{Docker, "unix:///var/run/cri-dockerd.sock", "--container-runtime-endpoint"}, ""},
		"dockershim":       {"--container-runtime-endpoint=unix:///var/run/dockershim.sock", "", "", "", Runtime{Docker, "", "--container-runtime-endpoint"}, ""},
		"docker flag":      {"--container-runtime=docker", "", "", "", Runtime{Docker, "", "--container-runtime"}, ""},
		"old, no endpoint": {"--network-plugin=cni", "", "", "v1.19.16", Runtime{Docker, "", "no endpoint before 1.24"}, ""},
		"new, no endpoint": {"", "", "", "v1.24.0", Runtime{}, "name no endpoint: set containerRuntimeEndpoint"},
		"unknown":          {"", "", "", "latest", Runtime{}, "version is not known"},
		"other":            {"--container-runtime-endpoint=unix:///run/isulad.sock", "", "", "", Runtime{OtherCRI, "unix:///run/isulad.sock", "--container-runtime-endpoint"}, ""},
		"not a socket":     {"--container-runtime-endpoint=tcp://1.2.3.4:5", "", "", "", Runtime{}, "not a unix socket"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.put("/var/lib/kubelet/config.yaml", []byte("containerRuntimeEndpoint: "+tt.config+"\n"))
			if tt.instance != "" {
				h.put("/var/lib/kubelet/instance-config.yaml", []byte("containerRuntimeEndpoint: "+tt.instance+"\n"))
			}
			h.put("/var/lib/kubelet/kubeadm-flags.env", []byte(`KUBELET_KUBEADM_ARGS="`+tt.flags+`"`))
			const api = "/etc/kubernetes/manifests/kube-apiserver.yaml"
			if tt.image != "" {
				h.put(api, []byte(strings.Replace(string(h.data(api)), "v1.34.4", tt.image, 1)))
			}
			got, err := DetectRuntime(Survey(h.files))
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestCrictl(t *testing.T) {
	all, err := ParseCrictlPS(testdata(t, "runtime/crictl-ps.json"))
	require.NoError(t, err)
	require.Len(t, all, 5)
	got := Select(all, APIServer)
	require.Len(t, got, 2, "a namespace, a container or a pod that only looks alike is not ours")
	require.Equal(t, Container{
		ID:   "4c1e7d6b3a2f9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d9c8b7a6f5e4d",
		Name: APIServer, PodName: "kube-apiserver-m1", Namespace: "kube-system", PodUID: "b0e56e3a92c2a3b1d9d3b9ad3c1e2f4a",
		State: Running, CreatedAt: time.Unix(0, 1780315200123456789).UTC(), Attempt: 2,
	}, got[0])
	require.Equal(t, Exited, got[1].State)
	require.Empty(t, Select(all, "kube"))

	for _, bad := range []string{"", "{", "[]", `{"containers": 3}`} {
		_, err := ParseCrictlPS([]byte(bad))
		require.ErrorContains(t, err, "crictl ps: not the expected JSON", bad)
	}
	none, err := ParseCrictlPS([]byte(`{"containers":[]}`))
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = ParseCrictlPS(make([]byte, maxListing+1))
	require.ErrorContains(t, err, "too large")
}

func TestSelectIsExact(t *testing.T) {
	const static, uuid = "b0e56e3a92c2a3b1d9d3b9ad3c1e2f4a", "5a3f2b1c-9d8e-4f70-a1b2-c3d4e5f60718"
	ours := Container{ID: "1", Name: APIServer, PodName: "kube-apiserver-m1", Namespace: "kube-system", PodUID: static}
	all := []Container{
		ours,
		{ID: "2", Name: APIServer, PodName: "kube-apiserver-m1", Namespace: "team-a", PodUID: static},
		{ID: "3", Name: APIServer, PodName: "kube-apiserver-m1", Namespace: "kube-system", PodUID: uuid},
		{ID: "4", Name: "manager", PodName: "etcd-operator-kube-apiserver-x", Namespace: "kube-system", PodUID: static},
		{ID: "5", Name: "kube-apiserver-proxy", PodName: "kube-apiserver-m1", Namespace: "kube-system", PodUID: static},
	}
	require.Equal(t, []Container{ours}, Select(all, APIServer))
}

func TestDocker(t *testing.T) {
	all, err := ParseDockerInspect(testdata(t, "runtime/docker-inspect.json"))
	require.NoError(t, err)
	require.Len(t, all, 3, "the sandbox is left out")
	got := Select(all, Etcd)
	require.Len(t, got, 2, "a container that is merely called etcd is not ours")
	require.Equal(t, 815, got[0].Pid)
	require.Equal(t, 3, got[0].Attempt)
	require.Equal(t, noon.Add(time.Second), got[0].StartedAt)
	require.Equal(t, Exited, got[1].State)

	ids, err := ParseIDs([]byte(got[0].ID + "\n" + got[1].ID + "\n"))
	require.NoError(t, err)
	require.Equal(t, []string{got[0].ID, got[1].ID}, ids)
	_, err = ParseIDs([]byte("Cannot connect to the Docker daemon"))
	require.ErrorContains(t, err, `"Cannot" is not an identifier`)
}

// TestCtr lists what runs: the tasks, and what is known of each of them.
func TestCtr(t *testing.T) {
	info, tasks := string(testdata(t, "runtime/ctr-info.json")), string(testdata(t, "runtime/ctr-tasks.txt"))
	c, err := parseCtrInfo([]byte(info))
	require.NoError(t, err)
	require.Equal(t, Unknown, c.State)
	gone := strings.Replace(info, c.ID, strings.Repeat("0", 64), 1)
	got, err := ParseCtrList([]byte(tasks + "\n=" + c.ID + "\n" + info + "\n=0\n" + gone + "\n"))
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Equal(t, Scheduler, got[0].Name)
	require.Equal(t, 4711, got[0].Pid)
	require.Equal(t, Running, got[0].State)
	require.Equal(t, Exited, got[1].State, "it has no task")
	require.Equal(t, got[:1], Select(got[:1], Scheduler))

	none, err := ParseCtrList([]byte(tasks))
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = ParseCtrList([]byte("ctr: failed to dial"))
	require.ErrorContains(t, err, "no table")
	_, err = ParseCtrList([]byte(tasks + "\n=0\nctr: not found\n"))
	require.ErrorContains(t, err, "not the expected JSON")
	_, err = ParseCtrList(make([]byte, maxListing+1))
	require.ErrorContains(t, err, "too large")
	s, err := parseCtrInfo([]byte(strings.Replace(info, `"io.cri-containerd.kind": "container"`, `"io.cri-containerd.kind": "sandbox"`, 1)))
	require.NoError(t, err)
	require.Empty(t, Select([]Container{s}, Scheduler))

	runs, err := CtrRuns(c.ID, []byte(tasks))
	require.NoError(t, err)
	require.True(t, runs)
	runs, err = CtrRuns("0000", []byte(tasks))
	require.NoError(t, err)
	require.False(t, runs)
}

// TestCtrListScript runs the script with a ctr that knows two containers, of
// which one has ended, and one that vanishes when it is asked for.
func TestCtrListScript(t *testing.T) {
	dir := t.TempDir()
	info, err := filepath.Abs("testdata/runtime/ctr-info.json")
	require.NoError(t, err)
	c, err := parseCtrInfo(testdata(t, "runtime/ctr-info.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ctr"), []byte(`#!/bin/sh
echo "$*" >>"`+dir+`/asked"
case $5 in
tasks) printf 'TASK PID STATUS\n%s 4711 RUNNING\nfeed 12 RUNNING\n' `+c.ID+` ;;
containers) case $6 in ls) printf '%s\ndead\nfeed\n' `+c.ID+` ;; info) [ "$7" != feed ] && cat "`+info+`" ;; esac ;;
esac
`), 0o755))
	argv := CtrListArgv("/run/c.sock", Etcd, Scheduler)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.Output()
	require.NoError(t, err)
	got, err := ParseCtrList(out)
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, c.ID, got[0].ID)
	require.Equal(t, 4711, got[0].Pid)
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	require.NoError(t, err)
	const ctr = "--address /run/c.sock -n k8s.io "
	require.ElementsMatch(t, []string{ // what can is asked at once
		ctr + "tasks ls",
		ctr + `containers ls -q labels."io.kubernetes.pod.namespace"==kube-system,labels."io.kubernetes.container.name"==etcd` +
			` labels."io.kubernetes.pod.namespace"==kube-system,labels."io.kubernetes.container.name"==kube-scheduler`,
		ctr + "containers info " + c.ID, ctr + "containers info feed",
	}, strings.Split(strings.TrimSpace(string(asked)), "\n"))

	for _, fails := range []string{"tasks", "containers"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "ctr"), []byte("#!/bin/sh\n[ $5 != "+fails+" ] || { echo ctr: no >&2; exit 1; }\n"), 0o755))
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		_, err := cmd.Output()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, fails)
		require.Equal(t, "ctr: no\n", string(exit.Stderr), fails)
	}
}

func TestRuntimeArgv(t *testing.T) {
	line := func(argv []string) string { return strings.Join(argv, " ") }
	const e = "unix:///run/containerd/containerd.sock"
	require.Equal(t, "crictl --runtime-endpoint "+e+" ps -o json", line(CrictlPSArgv(e)))
	require.Equal(t, "crictl --runtime-endpoint "+e+" stop -t 30 abc", line(CrictlStopArgv(e, "abc", 30*time.Second)))
	require.Equal(t, "docker ps --quiet --no-trunc --filter label=io.kubernetes.pod.namespace=kube-system", line(DockerPSArgv()))
	require.Equal(t, "docker stop -t 0 abc", line(DockerStopArgv("abc", -time.Second)))
	require.Equal(t, "docker inspect --type container a b", line(DockerInspectArgv("a", "b")))
	require.Equal(t, "ctr --address /run/c.sock -n k8s.io tasks ls", line(CtrTasksArgv("/run/c.sock")))
	require.Equal(t, "ctr --address /run/c.sock -n k8s.io tasks kill -s SIGTERM abc", line(CtrKillArgv("/run/c.sock", "abc", "SIGTERM")))
}
