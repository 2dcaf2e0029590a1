package kube

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func manifest(t testing.TB, component string) Manifest {
	m, err := ParseManifest("/etc/kubernetes/manifests/"+component+".yaml", testdata(t, "manifests/"+component+".yaml"))
	require.NoError(t, err)
	return m
}

// TestManifests reads the manifests that kubeadm 1.34.4 writes.
func TestManifests(t *testing.T) {
	tests := map[string]struct {
		health string
		serves []Endpoint
	}{
		APIServer: {"https://172.30.0.11:6443/readyz", []Endpoint{{"172.30.0.11:6443", "/etc/kubernetes/pki/apiserver.crt"}}},
		Etcd: {"http://127.0.0.1:2381/health", []Endpoint{
			{"127.0.0.1:2379", "/etc/kubernetes/pki/etcd/server.crt"},
			{"172.30.0.11:2379", "/etc/kubernetes/pki/etcd/server.crt"},
			{"172.30.0.11:2380", "/etc/kubernetes/pki/etcd/peer.crt"}}},
		ControllerManager: {"https://127.0.0.1:10257/healthz", nil},
		Scheduler:         {"https://127.0.0.1:10259/readyz", nil},
	}
	for component, tt := range tests {
		m := manifest(t, component)
		require.Equal(t, component, m.Component)
		require.Equal(t, component, m.Pod)
		require.Equal(t, "kube-system", m.Namespace)
		require.True(t, m.HostNetwork)
		require.Equal(t, tt.health, m.HealthURL())
		require.Equal(t, tt.serves, m.Serves())
	}
	require.Equal(t, []Member{{"m1", "https://172.30.0.11:2380"}}, manifest(t, Etcd).EtcdMembers())
	require.Equal(t, "m1", manifest(t, Etcd).Args.Value("name"))
	require.True(t, manifest(t, Scheduler).Mounts("/etc/kubernetes/scheduler.conf"))
	require.True(t, manifest(t, APIServer).Mounts("/etc/kubernetes/pki/etcd/ca.crt"))
	require.False(t, manifest(t, APIServer).Mounts("/etc/kubernetes/pki2"))
}

func TestReads(t *testing.T) {
	live := func(m Manifest) (live, once []string) {
		for _, r := range m.Reads() {
			if r.Live {
				live = append(live, r.Path)
			} else {
				once = append(once, r.Path)
			}
		}
		return live, once
	}
	l, o := live(manifest(t, APIServer))
	require.Subset(t, l, []string{"/etc/kubernetes/pki/apiserver.crt", "/etc/kubernetes/pki/apiserver-kubelet-client.key", "/etc/kubernetes/pki/apiserver-etcd-client.crt", "/etc/kubernetes/pki/front-proxy-client.crt"})
	require.Subset(t, o, []string{"/etc/kubernetes/pki/sa.key", "/etc/kubernetes/pki/etcd/ca.crt"})

	old := manifest(t, APIServer)
	old.Image = "k8s.gcr.io/kube-apiserver:v1.19.16"
	l, o = live(old)
	require.Contains(t, l, "/etc/kubernetes/pki/apiserver.crt")
	require.Contains(t, o, "/etc/kubernetes/pki/apiserver-kubelet-client.crt")
	old.Image = "kube-apiserver@sha256:abc"
	l, _ = live(old)
	require.NotContains(t, l, "/etc/kubernetes/pki/apiserver.crt", "of an unknown version nothing is promised")

	l, o = live(manifest(t, Etcd))
	require.Equal(t, []string{"/etc/kubernetes/pki/etcd/server.crt", "/etc/kubernetes/pki/etcd/server.key", "/etc/kubernetes/pki/etcd/peer.crt", "/etc/kubernetes/pki/etcd/peer.key"}, l)
	require.Equal(t, []string{"/etc/kubernetes/pki/etcd/ca.crt", "/etc/kubernetes/pki/etcd/ca.crt"}, o)

	_, o = live(manifest(t, Scheduler))
	require.Equal(t, "/etc/kubernetes/scheduler.conf", o[0])
	_, o = live(manifest(t, ControllerManager))
	require.Contains(t, o, "/etc/kubernetes/controller-manager.conf")

	vip, err := ParseManifest("kube-vip.yaml", []byte("apiVersion: v1\nkind: Pod\nmetadata: {name: kube-vip, namespace: kube-system}\nspec:\n  containers: [{name: kube-vip, image: 'ghcr.io/kube-vip/kube-vip:v0.8.0', args: [manager]}]\n  volumes: [{name: k, hostPath: {path: /etc/kubernetes/admin.conf}}]\n"))
	require.NoError(t, err)
	require.Equal(t, []Read{{Path: "/etc/kubernetes/admin.conf"}}, vip.Reads())
	require.Empty(t, vip.HealthURL())
}

func TestManifestForms(t *testing.T) {
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, labels: {component: etcd}}\nspec:\n  containers:\n"
	tests := map[string]string{
		"values apart": "  - {name: etcd, command: [etcd, --name, m1, -data-dir=/d], args: [--cert-file, /c]}\n",
		"args only":    "  - {name: etcd, args: [--name=m1, --data-dir=/d, --cert-file=/c]}\n",
		"shell":        "  - {name: etcd, command: [/bin/sh, -c, 'exec etcd --name=m1 --data-dir /d --cert-file=/c']}\n",
		"last counts":  "  - {name: etcd, command: [etcd, --name=x, --name=m1, --data-dir=/d, --cert-file=/c]}\n",
		"side car":     "  - {name: side, args: [--name=x]}\n  - {name: etcd, args: [--name=m1, --data-dir=/d, --cert-file=/c]}\n",
	}
	for name, containers := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := ParseManifest("etcd.yaml", []byte(pod+containers))
			require.NoError(t, err)
			require.Equal(t, Etcd, m.Component)
			require.Equal(t, []string{"m1", "/d", "/c"}, []string{m.Args.Value("name"), m.Args.Value("data-dir"), m.Args.Value("cert-file")})
		})
	}
	asJSON := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":"c","image":"i:v1.2.3"}]}}`
	m, err := ParseManifest("x.json", []byte(asJSON))
	require.NoError(t, err)
	require.Equal(t, "c", m.Component)

	for data, want := range map[string]string{
		"":                            "not a v1 Pod",
		"hello":                       "not a v1 Pod",
		"kind: Pod\napiVersion: v2\n": "not a v1 Pod",
		"kind: Pod\napiVersion: v1\n": "0 containers",
		"kind: Pod\napiVersion: v1\nspec: {containers: [{}]}": "has no name",
		"kind: Pod\n\t: ": "not valid YAML",
		"kind: Pod\napiVersion: v1\nspec: {containers: [" + strings.Repeat("{name: a},", 65) + "]}": "65 containers",
	} {
		_, err := ParseManifest("f", []byte(data))
		require.ErrorContains(t, err, want)
	}
	_, err = ParseManifest("f", []byte("kind: Secret\napiVersion: v1\n"))
	require.ErrorIs(t, err, ErrNoManifest)
}

func TestAddresses(t *testing.T) {
	m := Manifest{Component: APIServer, Args: Args{"--bind-address=0.0.0.0", "--advertise-address=fd00::1", "--secure-port=8443", "--tls-cert-file=/a.crt"}}
	require.Equal(t, "https://[fd00::1]:8443/readyz", m.HealthURL())
	require.Equal(t, []Endpoint{{"[fd00::1]:8443", "/a.crt"}}, m.Serves())
	m.Args = Args{"--bind-address=10.0.0.9", "--advertise-address=10.0.0.1"}
	require.Equal(t, "https://10.0.0.9:6443/readyz", m.HealthURL())
	require.Empty(t, m.Serves(), "no certificate file, none to compare with")
	e := Manifest{Component: Etcd, Args: Args{"--listen-client-urls=https://0.0.0.0:2379,http://127.0.0.1:2390,bad", "--listen-peer-urls=https://[::]:2380", "--cert-file=/c", "--peer-cert-file=/p", "--listen-metrics-urls=http://0.0.0.0:2381"}}
	require.Equal(t, []Endpoint{{"127.0.0.1:2379", "/c"}, {"[::1]:2380", "/p"}}, e.Serves())
	require.Equal(t, "http://127.0.0.1:2381/health", e.HealthURL())
}

func TestParsePods(t *testing.T) {
	const dir = "/etc/kubernetes/manifests"
	data := testdata(t, "manifests/etcd.yaml")
	pods := ParsePods(dir, []File{
		{Path: dir + "/.etcd.yaml.swp", Data: data},
		{Path: dir + "/README", Data: []byte("hello")},
		{Path: dir + "/aaa-backup", Data: data},
		{Path: dir + "/etcd.yaml", Data: data},
		{Path: dir + "/locked.yaml", Err: "permission denied"},
		{Path: dir + "/sub/etcd.yaml", Data: data},
		{Path: "/elsewhere/etcd.yaml", Data: data},
	})
	require.Len(t, pods.Manifests, 2)
	require.Equal(t, []string{dir + "/aaa-backup and " + dir + "/etcd.yaml both describe etcd"}, pods.Duplicates)
	require.Len(t, pods.Unreadable, 2)
	m, ok := pods.Component(Etcd)
	require.True(t, ok)
	require.Equal(t, dir+"/etcd.yaml", m.Path)
	_, ok = pods.Component(APIServer)
	require.False(t, ok)
}

func FuzzParseManifest(f *testing.F) {
	for _, c := range Components() {
		f.Add(testdata(f, "manifests/"+c+".yaml"))
	}
	f.Add([]byte("apiVersion: v1\nkind: Pod\nspec: {containers: [{name: &a x, command: [sh, -c, *a]}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest("/etc/kubernetes/manifests/x", data)
		if err != nil {
			return
		}
		if m.Component == "" || len(m.Args) > len(data) {
			t.Fatalf("%+v", m)
		}
		for _, component := range []string{m.Component, APIServer, Etcd, Scheduler} {
			m.Component = component
			_, _, _, _ = m.Reads(), m.Serves(), m.HealthURL(), m.EtcdMembers()
		}
		Survey([]File{{Path: "/etc/kubernetes/manifests/x", Data: data}, {Path: "/etc/kubernetes/kubelet.env", Data: data}}).MorePatterns()
	})
}
