package actions

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/actions/kube"
	"certbook/engine"
	"certbook/engine/host"
	"certbook/schema"
)

func TestPreflight(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(n *fakeNode, a *Preflight)
		want []string // in the error; none when it passes
	}{
		"good":  {func(*fakeNode, *Preflight) {}, nil},
		"root":  {func(n *fakeNode, _ *Preflight) { n.facts = "uid 1000\nfree 0 999\nfree 1 999\n" }, []string{"user id 1000; kubeadm needs root"}},
		"space": {func(n *fakeNode, _ *Preflight) { n.facts = "uid 0\nfree 0 999\nfree 1 7\n" }, []string{"/var/lib has 7 MiB free, want 100"}},
		"inodes": {func(n *fakeNode, _ *Preflight) { n.facts = "uid 0\nfree 0 999\ninodes 0 12\n" },
			[]string{"/etc/kubernetes has 12 inodes free, want 1000"}},
		"kubeadm runs": {func(n *fakeNode, _ *Preflight) {
			n.facts += "kubeadm 4711 kubeadm upgrade apply v1.34.4 --certificate-key 0123456789abcdef -y \nkubeadm 4712 /bin/sh /usr/local/bin/kubeadm certs renew all \n"
		}, []string{"kubeadm is running on this host (process 4711: kubeadm upgrade apply v1.34.4 ...); wait until it has ended, or end it; ", "(process 4712: kubeadm certs renew all)"}},
		"kubeadm, ok": {func(n *fakeNode, _ *Preflight) {
			n.facts += "kubeadm 4711 \nkubeadm 4712 kubeadm version -o short \nkubeadm x kubeadm upgrade \nfree 9 1\nfree x\ninodes 0 -\nnonsense\n\n"
		}, nil},
		"clock":     {func(n *fakeNode, _ *Preflight) { n.Advance(-2 * time.Minute) }, []string{"the clock differs from the controller's by -2m0s"}},
		"clock, ok": {func(n *fakeNode, _ *Preflight) { n.Advance(time.Minute) }, nil},
		"kubeadm":   {func(n *fakeNode, _ *Preflight) { n.kubeadm = "" }, []string{"kubeadm"}},
		"too old":   {func(n *fakeNode, _ *Preflight) { n.kubeadm = "v1.10.0" }, []string{"1.10"}},
		"key": {func(n *fakeNode, _ *Preflight) {
			f, _ := n.File("/etc/kubernetes/pki/front-proxy-client.key")
			n.Put("/etc/kubernetes/pki/apiserver.key", f.Data)
		}, []string{"apiserver: the key /etc/kubernetes/pki/apiserver.key does not match the certificate apiserver.crt"}},
		"no key": {func(n *fakeNode, _ *Preflight) { n.Put("/etc/kubernetes/pki/ca.key", []byte("x")) },
			[]string{"ca: /etc/kubernetes/pki/ca.key holds no readable private key"}},
		"all at once": {func(n *fakeNode, _ *Preflight) {
			n.facts = "uid 5\nfree 0 1\nkubeadm 4711 kubeadm upgrade node \n"
			n.Advance(time.Hour)
		}, []string{"user id 5", "1 MiB free", "process 4711: kubeadm upgrade node", "by 1h0m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := serving(t)
			n.facts, n.kubeadm = "uid 0\nfree 0 999\nfree 1 999\ninodes 0 1000\nrenews k8s-certs-renew.timer\t/usr/local/bin/kube-scripts/k8s-certs-renew.sh\n", "v1.34.4"
			now, err := n.Now(t.Context())
			require.NoError(t, err)
			a := &Preflight{MaxClockSkew: schema.Duration(time.Minute), FreeMiB: 100, FreeInodes: 1000, Paths: []string{"/etc/kubernetes", "/var/lib"}, now: func() time.Time { return now }}
			c.set(n, a)
			res, err := a.Check(t.Context(), n)
			require.Empty(t, n.Calls("Exec"))
			if c.want == nil {
				require.NoError(t, err)
				require.Equal(t, "m1", res.Outputs.(Readiness).Node)
				require.Equal(t, "containerd", res.Outputs.(Readiness).Runtime)
				require.Equal(t, "v1.34.4", res.Outputs.(Readiness).Kubeadm)
				require.Equal(t, []string{"k8s-certs-renew.timer of KubeKey (/usr/local/bin/kube-scripts/k8s-certs-renew.sh) also renews certificates on this host; turn one of the two off"}, res.Warnings)
				return
			}
			require.Error(t, err)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

// TestPreflightNamesRenewalsInTheCluster asks the API server, and does without it.
func TestPreflightNamesRenewalsInTheCluster(t *testing.T) {
	for name, c := range map[string]struct {
		path, answer, noAPI string
		want                []string
	}{
		"nothing": {},
		"kucero": {"/apis/apps/v1/daemonsets?fieldSelector=metadata.name%3Dkucero", `{"items":[{"metadata":{"name":"kucero","namespace":"kube-system"}}]}`, "",
			[]string{"kucero (DaemonSet kube-system/kucero) also renews certificates; turn one of the two off"}},
		"ekco": {"/apis/apps/v1/deployments?fieldSelector=metadata.name%3Dekc-operator", `{"items":[{"metadata":{"name":"ekc-operator","namespace":"kurl"}}]}`, "",
			[]string{"ekco (Deployment kurl/ekc-operator) also renews certificates; turn one of the two off"}},
		"Cluster API": {"/api/v1/nodes?fieldSelector=metadata.name%3Dm1", `{"items":[{"metadata":{"name":"m1","annotations":{"cluster.x-k8s.io/machine":"cp-7","cluster.x-k8s.io/owner-kind":"KubeadmControlPlane","cluster.x-k8s.io/owner-name":"cp"}}}]}`, "",
			[]string{"Cluster API keeps this node (KubeadmControlPlane cp, machine cp-7): after the renewal remove the annotation machine.cluster.x-k8s.io/certificates-expiry from the Machine and its KubeadmConfig, or the machine is replaced by its old date"}},
		"names": {kube.ConfigurationPath, `{"items":[{"metadata":{"name":"kubeadm-config"},"data":{"ClusterConfiguration":"apiServer: {certSANs: [api.example.org]}\n"}}]}`, "",
			[]string{"/etc/kubernetes/pki/apiserver.crt does not name api.example.org, as the cluster's configuration (ConfigMap kube-system/kubeadm-config) says it should; a renewal keeps the names, 'kubeadm init phase certs' makes other ones"}},
		"no configuration": {kube.ConfigurationPath, `{"items":[{"data":{"ClusterConfiguration":"a: [secret"}}]}`, "",
			[]string{"names in the cluster's configuration were not looked for: ConfigMap kube-system/kubeadm-config: ClusterConfiguration: not valid YAML, line 1"}},
		"another node": {"/api/v1/nodes?fieldSelector=metadata.name%3Dm1", `{"items":[{"metadata":{"name":"m1","annotations":{"a":"b"}}}]}`, "", nil},
		"no answer": {"", "", "The connection to the server 172.30.0.11:6443 was refused - did you specify the right host or port?",
			[]string{"kucero, ekco and Cluster API were not looked for, nor names in the cluster's configuration: kubectl get --raw: exit status 1: The connection to the server 172.30.0.11:6443 was refused - did you specify the right host or port?"}},
		"hostile": {"/apis/apps/v1/daemonsets?fieldSelector=metadata.name%3Dkucero", `{"items":"\u001b[2J"}`, "",
			[]string{"kucero, ekco and Cluster API were not looked for: the API server's answer: not the expected JSON: json: cannot unmarshal string into Go struct field .items of type []kube.object"}},
	} {
		t.Run(name, func(t *testing.T) {
			n, _ := serving(t)
			n.Put("/etc/kubernetes/admin.conf", []byte("x"))
			n.facts, n.kubeadm = "uid 0\n", "v1.34.4"
			n.api, n.noAPI = map[string]string{c.path: c.answer}, c.noAPI
			now, err := n.Now(t.Context())
			require.NoError(t, err)
			a := &Preflight{MaxClockSkew: schema.Duration(time.Minute), Cluster: true, now: func() time.Time { return now }}
			res, err := a.Check(t.Context(), n)
			require.NoError(t, err)
			require.Equal(t, c.want, res.Warnings)
			a.Cluster = false
			res, err = a.Check(t.Context(), n)
			require.NoError(t, err)
			if strings.Contains(c.path, "/apps/") {
				require.Empty(t, res.Warnings, "another host looks for it")
			} else {
				require.Equal(t, c.want, res.Warnings)
			}
		})
	}
}

// TestPreflightNamesRenewals looks at real files: enabled timers and cron tables
// that renew, or start a script which does.
func TestPreflightNamesRenewals(t *testing.T) {
	const script = "#!/bin/bash\n# renews\nkubeadmCerts='/usr/local/bin/kubeadm alpha certs'\n${kubeadmCerts} renew apiserver\n"
	timer := func(files map[string]string, name, service string) {
		files["/etc/systemd/system/timers.target.wants/"+name+".timer"] = "[Timer]\nOnCalendar=Mon *-*-1,2,3,4,5,6,7 03:00:00\n"
		files["/etc/systemd/system/"+name+".service"] = service
	}
	for name, c := range map[string]struct {
		files func(map[string]string)
		want  []string
	}{
		"nothing": {func(f map[string]string) {
			f["/etc/crontab"] = "17 * * * * root run-parts /etc/cron.hourly\n"
			f["/etc/cron.daily/logrotate"] = "#!/bin/sh\n/usr/sbin/logrotate /etc/logrotate.conf\n"
			timer(f, "certbot", "[Service]\nExecStart=/usr/bin/certbot -q renew\n")
			timer(f, "expiry", "[Service]\nExecStart=/usr/bin/kubeadm certs check-expiration\n")
		}, nil},
		"kubespray": {func(f map[string]string) {
			timer(f, "k8s-certs-renew", "[Unit]\nDescription=Renew K8S control plane certificates\n[Service]\nExecStart=/usr/local/bin/k8s-certs-renew.sh\n")
			f["/usr/local/bin/k8s-certs-renew.sh"] = "#!/bin/bash\n/usr/local/bin/kubeadm certs renew all\n"
		}, []string{"k8s-certs-renew.timer of kubespray (/usr/local/bin/k8s-certs-renew.sh)"}},
		"KubeKey": {func(f map[string]string) {
			timer(f, "k8s-certs-renew", "[Service]\nExecStart=/usr/local/bin/kube-scripts/k8s-certs-renew.sh\n")
			f["/usr/local/bin/kube-scripts/k8s-certs-renew.sh"] = script
		}, []string{"k8s-certs-renew.timer of KubeKey (/usr/local/bin/kube-scripts/k8s-certs-renew.sh)"}},
		"not enabled": {func(f map[string]string) {
			f["/etc/systemd/system/k8s-certs-renew.timer"] = "[Timer]\n"
			f["/etc/systemd/system/k8s-certs-renew.service"] = "[Service]\nExecStart=/usr/bin/kubeadm certs renew all\n"
		}, nil},
		"a unit of another name": {func(f map[string]string) {
			f["/etc/systemd/system/timers.target.wants/monthly.timer"] = "[Timer]\nUnit=pki.service\n"
			f["/usr/lib/systemd/system/pki.service"] = "[Service]\nExecStart=/usr/bin/kubeadm certs renew all\n"
		}, []string{"monthly.timer (/usr/lib/systemd/system/pki.service)"}},
		"cron": {func(f map[string]string) {
			f["/etc/cron.d/pki"] = "0 3 1 * * root /usr/bin/kubeadm certs renew all\n"
			f["/etc/cron.monthly/my pki"] = "#!/bin/sh\n. /opt/pki.sh\n"
			f["/opt/pki.sh"] = script
			f["/var/spool/cron/crontabs/root"] = "# 0 3 1 * * kubeadm certs renew all\n"
		}, []string{"/etc/cron.d/pki", "/etc/cron.monthly/my pki (/opt/pki.sh)"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, at := rooted(t)
			files := map[string]string{}
			c.files(files)
			for path, data := range files {
				put(t, at(path), data, 0o644)
			}
			res := engine.Result{}
			problem := func(format string, args ...any) { t.Errorf(format, args...) }
			facts, err := (&Preflight{}).machine(t.Context(), h)
			require.NoError(t, err)
			(&Preflight{}).judge(h, facts, problem, &res)
			var want []string
			for _, w := range c.want {
				want = append(want, w+" also renews certificates on this host; turn one of the two off")
			}
			require.Equal(t, want, res.Warnings)
		})
	}
}

// TestPreflightFindsKubeadm looks at real processes: one named kubeadm, and not
// one that has only heard of it.
func TestPreflightFindsKubeadm(t *testing.T) {
	h, err := host.Local(t.Context(), host.LocalOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	look := func() string {
		var problems []string
		a := &Preflight{Paths: []string{"/"}}
		facts, err := a.machine(t.Context(), h)
		require.NoError(t, err)
		a.judge(h, facts, func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf(format, args...))
		}, &engine.Result{})
		return strings.Join(problems, "\n")
	}
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	program, err := os.ReadFile(sh)
	require.NoError(t, err)
	dir := t.TempDir()
	put(t, filepath.Join(dir, "upgrade"), "echo up\nread line\n", 0o644)
	// run starts a shell of some name, which waits for its input to end.
	run := func(name string, args ...string) (pid int, end func()) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), program, 0o755))
		cmd := exec.Command(filepath.Join(dir, name), args...)
		cmd.Dir = dir
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = out.Read(make([]byte, 3))
		require.NoError(t, err)
		return cmd.Process.Pid, func() {
			require.NoError(t, in.Close())
			_ = cmd.Wait() // it reads the end of its input: another status
		}
	}
	pid, end := run("kubeadm", "upgrade", "apply", "v1.34.4", "--token", "abcdef.0123456789abcdef")
	require.Contains(t, look(), fmt.Sprintf("kubeadm is running on this host (process %d: kubeadm upgrade apply v1.34.4 ...)", pid))
	end()
	require.NotContains(t, look(), fmt.Sprint(pid))

	pid, end = run("vim", "upgrade", "kubeadm.yaml", "kubeadm")
	require.NotContains(t, look(), fmt.Sprint(pid))
	end()
}

// TestPreflightLeavesContainersAlone passes over a kubeadm that works on another
// /etc/kubernetes, as in a cluster of containers on the same machine.
func TestPreflightLeavesContainersAlone(t *testing.T) {
	needRoot(t)
	h, err := host.Local(t.Context(), host.LocalOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, h.Close()) })
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	program, err := os.ReadFile(sh)
	require.NoError(t, err)
	dir := t.TempDir()
	kubeadm := filepath.Join(dir, "kubeadm")
	require.NoError(t, os.WriteFile(kubeadm, program, 0o755))
	put(t, filepath.Join(dir, "upgrade"), "echo up\nread line\n", 0o644)
	conf, other := filepath.Join(dir, "kubernetes"), filepath.Join(dir, "other")
	for _, d := range []string{conf, other} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	for from, want := range map[string]bool{conf: true, other: false} {
		cmd := exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$1" "$2" && exec "$3" "$4"`, "sh", from, conf, kubeadm, filepath.Join(dir, "upgrade"))
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = out.Read(make([]byte, 3))
		require.NoError(t, err)
		said, err := h.Query(t.Context(), engine.Command{Argv: []string{"sh", "-c", preflightScript, "sh", "/", conf}})
		require.NoError(t, err)
		require.Equal(t, want, strings.Contains(string(said.Stdout), fmt.Sprintf("\nkubeadm %d ", cmd.Process.Pid)), "%s\n%s", from, said.Stdout)
		require.NoError(t, in.Close())
		_ = cmd.Wait()
	}
}
