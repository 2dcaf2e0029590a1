package kube

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// argument fails when a word from a host cannot stand in a command line for
// what it is: an option, two words, or none.
func argument(t *testing.T, what, word string) {
	t.Helper()
	if word == "" || word[0] == '-' || strings.ContainsAny(word, " \t\r\n\x00\x1b'\"\\$`") || len(word) > 256 {
		t.Fatalf("%s: %q goes into a command", what, word)
	}
}

// FuzzParseKubeconfig reads a kubeconfig and changes one value in it: the
// current cluster's server then is the new one, and all else is as before.
func FuzzParseKubeconfig(f *testing.F) {
	p := newPair(f)
	f.Add(p.dst)
	f.Add(p.src)
	f.Add([]byte(`{"kind":"Config","current-context":"a","contexts":[{"name":"a","context":{"cluster":"b","user":"c"}}],"clusters":[{"name":"b","cluster":{"server":"x"}}],"users":[{"name":"c","user":{"token":"t"}}]}`))
	f.Add([]byte("clusters:\n- {name: a, cluster: {server: b}}\nusers:\n- {name: c}\n"))
	f.Add([]byte("clusters: [&a {name: x}, *a]\nusers: [{name: {}}]\n"))
	f.Add([]byte("users:\n- user: {client-certificate-data: ' A A = = ', client-key-data: REDACTED}\n? x\n: y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := ParseKubeconfig(data)
		if err != nil {
			return
		}
		if len(k.Clusters) > maxEntries || len(k.Users) > maxEntries || len(k.Contexts) > maxEntries {
			t.Fatalf("%d clusters, %d users, %d contexts", len(k.Clusters), len(k.Users), len(k.Contexts))
		}
		for _, u := range k.Users {
			if leaf, err := u.Leaf(); (leaf == nil) == (err == nil) {
				t.Fatalf("user %q: %v, %v", u.Name, leaf, err)
			}
		}
		cluster, user, err := k.Current()
		if err != nil {
			return
		}
		if !slices.ContainsFunc(k.Users, func(u User) bool { return u.Name == user.Name }) {
			t.Fatalf("user %q is none of the file's", user.Name)
		}
		const server = "https://fuzz:6443"
		out, err := SetServer(data, "", server)
		if err != nil {
			return // ambiguous, or written in a way that cannot be edited
		}
		after, err := ParseKubeconfig(out)
		if err != nil {
			t.Fatalf("the result is no kubeconfig: %v\n%q", err, out)
		}
		now, _, err := after.Current()
		if err != nil || now.Server != server || now.Name != cluster.Name || !bytes.Equal(now.CAData, cluster.CAData) {
			t.Fatalf("%v: %+v became %+v", err, cluster, now)
		}
		if fmt.Sprint(k.Users, k.Contexts) != fmt.Sprint(after.Users, after.Contexts) || len(k.Clusters) != len(after.Clusters) {
			t.Fatalf("more than the server has changed:\n%q\n%q", data, out)
		}
	})
}

// FuzzSurvey puts what a host's files say together: a unit, an environment
// file, the kubelet's configuration and a manifest. Whatever they say, what is
// read next are absolute paths on one line.
func FuzzSurvey(f *testing.F) {
	h := newHost(f)
	api := h.data("/etc/kubernetes/manifests/kube-apiserver.yaml")
	few := []File{{Path: "/etc/kubernetes/pki/ca.crt", Data: h.ca.pem()}, {Path: "/etc/kubernetes/pki/ca.key"}}
	unit := []byte("[Service]\nEnvironment=\"KUBELET_KUBECONFIG_ARGS=--kubeconfig=/etc/kubernetes/kubelet.conf\"\nExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS \\\n  --cert-dir /k/pki\n")
	env := []byte(`KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///run/crio/crio.sock --hostname-override=M1"`)
	f.Add(unit, env, h.data("/var/lib/kubelet/config.yaml"), api)
	f.Add([]byte("--config=/c\x00d --pod-manifest-path '/m\n'"), []byte("A=--container-runtime=docker"), []byte("staticPodPath: \"/a\\nb\\0\"\ncontainerRuntimeEndpoint: /x y"),
		bytes.Replace(api, []byte("=/etc/kubernetes/pki/ca.crt"), []byte("=/a\n/ca.crt"), 1))
	f.Add([]byte(""), []byte("x=--cert-dir=/../.."), []byte("containerRuntimeEndpoint: unix://../x"), bytes.ReplaceAll(api, []byte("client-ca-file"), []byte("tls-sni-cert-key")))
	f.Fuzz(func(t *testing.T, unit, env, config, manifest []byte) {
		h := &host{files: slices.Clone(few)}
		h.put("/etc/systemd/system/kubelet.service.d/10.conf", unit)
		h.put("/var/lib/kubelet/kubeadm-flags.env", env)
		h.put("/var/lib/kubelet/config.yaml", config)
		h.put("/etc/kubernetes/manifests/kube-apiserver.yaml", manifest)
		l := Survey(h.files)
		if len(l.Kubelet.Args) > 3*maxWords {
			t.Fatalf("%d words", len(l.Kubelet.Args))
		}
		for _, p := range l.MorePatterns() {
			if !path.IsAbs(p) || path.Clean(p) != p || strings.ContainsAny(p, "\n\x00") {
				t.Fatalf("%q is read", p)
			}
		}
		for _, c := range l.Certs() {
			if c.Path != "" && path.IsAbs(c.Path) != (path.Clean("/"+c.Path) == c.Path) {
				t.Fatalf("%s lies at %q", c.Name, c.Path)
			}
		}
		if r, err := DetectRuntime(l); err == nil && r.Kind != Docker {
			argument(t, "endpoint", r.Endpoint)
			argument(t, "socket", r.Socket())
		}
		for _, m := range l.Pods.Manifests {
			argument(t, "component", m.Component)
		}
		found := Inventory(l, nil)
		for _, kubeadm := range []Version{{1, 19, 16, ""}, {1, 34, 4, ""}} {
			out, err := ClusterConfig(l, kubeadm, found, 0)
			if err != nil {
				continue
			}
			docs, err := parseDocs(out, maxDocs)
			if err != nil || len(docs) != 2 {
				t.Fatalf("%d documents, %v:\n%s", len(docs), err, out)
			}
			if dir := text(docs[1], "certificatesDir"); dir != l.CertificatesDir {
				t.Fatalf("%q is written down as %q", l.CertificatesDir, dir)
			}
		}
	})
}

// FuzzContainers reads a listing as that of every tool. What comes out is
// bounded, and its identifiers can stand in a command.
func FuzzContainers(f *testing.F) {
	tasks := testdata(f, "runtime/ctr-tasks.txt")
	for _, name := range []string{"crictl-ps.json", "docker-inspect.json", "ctr-info.json"} {
		f.Add(testdata(f, "runtime/"+name), tasks)
	}
	f.Add([]byte("0123456789ab\nabcdefabcdef"), []byte("TASK PID STATUS\nx 99999999999999999999 RUNNING\nx -1 STOPPED\n"))
	f.Add([]byte(`{"containers":[{"id":"-f"}],"status":{"id":"a\nb"},"ID":"--all"}`), tasks)
	f.Add([]byte(`[{"Id":"$(id)","State":{"Pid":-1}}]`), tasks)
	f.Fuzz(func(t *testing.T, data, tasks []byte) {
		var all []Container
		for _, parse := range []func([]byte) ([]Container, error){
			ParseCrictlPS, ParseDockerInspect,
			func(b []byte) ([]Container, error) {
				return ParseCtrList(slices.Concat(tasks, []byte("\n=0\n"), b))
			},
		} {
			if list, err := parse(data); err == nil {
				all = append(all, list...)
			}
		}
		ids, err := ParseIDs(data)
		if err == nil {
			for _, id := range ids {
				all = append(all, Container{ID: id})
			}
		}
		if len(ids) > maxListed {
			t.Fatalf("%d identifiers", len(ids))
		}
		for _, c := range all {
			argument(t, "identifier", c.ID)
			if c.Pid < 0 {
				t.Fatalf("process %d", c.Pid)
			}
			for _, at := range []time.Time{c.CreatedAt, c.StartedAt} {
				if _, err := at.MarshalText(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, c := range Select(all, Etcd) {
			if c.Name != Etcd || c.Namespace != systemNamespace {
				t.Fatalf("%+v was taken for etcd", c)
			}
		}
		with, err := withTasks(all, tasks)
		if err != nil {
			return
		}
		if len(with) != len(all) {
			t.Fatalf("%d containers became %d", len(all), len(with))
		}
		for i, c := range with {
			if c.ID != all[i].ID || c.Pid < 0 || c.Pid == 0 && c.State == Running {
				t.Fatalf("%+v", c)
			}
		}
	})
}

// FuzzParseQuorum reads metrics: no member is counted that has no line, and
// the same again with lines that do not matter between them.
func FuzzParseQuorum(f *testing.F) {
	f.Add([]byte("etcd_network_known_peers{Local=\"a\",Remote=\"b\"} 1\netcd_network_active_peers{} 1\netcd_server_has_leader 1\n"))
	f.Add([]byte("etcd_server_has_leader 1"))
	f.Add([]byte("# x\r\n\r\netcd_network_known_peers{ 1\n 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		q := ParseQuorum(data)
		lines := 1 + bytes.Count(data, []byte("\n"))
		if q.Members < 0 || q.Connected < 0 || q.Members+q.Connected > lines {
			t.Fatalf("%+v of %d lines", q, lines)
		}
		if q.HasLeader && q.Members > 1 && q.Connected == 0 && q.Spare() {
			t.Fatalf("%+v may stop", q)
		}
		noise := bytes.ReplaceAll(data, []byte("\n"), []byte("\n# HELP x\nx 1\n"))
		if len(noise) < MaxFile && ParseQuorum(noise) != q {
			t.Fatalf("%+v became %+v", q, ParseQuorum(noise))
		}
	})
}

// FuzzParseVersion reads what kubeadm version prints. A version reads the same
// when it is written again, and gives a command or an error.
func FuzzParseVersion(f *testing.F) {
	for _, s := range []string{"v1.34.4", "1.19.16\n", "v1.32.0-rc.1", "v1.30.1+k3s1", "v1.2", "v01.002.3", "v9999.9999.9999", "v1.34.4 --config=/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		if err != nil {
			if len(err.Error()) > 600 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		argument(t, "version", v.String())
		again, err := ParseVersion(v.String())
		if err != nil || again != v || v.Compare(again) != 0 {
			t.Fatalf("%q is %v, then %v: %v", s, v, again, err)
		}
		argv, err := RenewArgv(v, "apiserver", RenewOptions{})
		if (err == nil) != (v.Supported() == nil) || err == nil && argv[0] != "kubeadm" {
			t.Fatalf("%v: %q, %v", v, argv, err)
		}
	})
}
