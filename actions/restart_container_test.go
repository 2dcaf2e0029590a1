package actions

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"certbook/engine"
	"certbook/schema"
)

func restart(method string) *RestartContainer {
	return &RestartContainer{
		Components: []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"},
		All:        true,
		Method:     method, Grace: schema.Duration(30 * time.Second), Wait: schema.Duration(time.Minute),
		Park: "/var/lib/certbook/parked/r",
	}
}

// everything is one file that each component reads.
var everything = []string{"scheduler.conf", "controller-manager.conf", "pki/apiserver.crt", "pki/etcd/server.crt"}

func TestRestartContainer(t *testing.T) {
	all := []string{"stop kube-apiserver-m1", "stop etcd-m1", "stop kube-controller-manager-m1", "stop kube-scheduler-m1"}
	for name, c := range map[string]struct {
		renewed []string
		force   bool
		method  string
		want    []string
	}{
		"nothing is older":       {nil, false, "auto", nil},
		"all, in order":          {everything, false, "auto", all},
		"only what is older":     {[]string{"scheduler.conf"}, false, "container", all[3:]},
		"the API server's twins": {[]string{"pki/apiserver.crt"}, false, "auto", all[:1]},
		"force":                  {nil, true, "auto", all},
		"none":                   {everything, false, "none", nil},
		"by the manifest": {[]string{"scheduler.conf", "pki/etcd/server.crt"}, false, "manifest",
			[]string{"out etcd", "in etcd", "out kube-scheduler", "in kube-scheduler"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, "crictl")
				n.renewed(c.renewed...)
				a := restart(c.method)
				a.Force = c.force
				if c.want == nil {
					requireClean(t, a, n)
					return
				}
				res := carryOut(t, a, n)
				require.Equal(t, c.want, n.did)
				for _, d := range res.Done {
					require.NotEqual(t, d.Before["container"], d.After["container"], d.Subject)
				}
				again := restart(c.method)
				requireClean(t, again, n)
				_, err := n.ReadFiles(t.Context(), a.Park+"/*")
				require.NoError(t, err)
			})
		})
	}
}

// TestRestartContainerRuntimes finds each runtime in the kubelet's own
// configuration and speaks to it through its tool.
func TestRestartContainerRuntimes(t *testing.T) {
	for endpoint, want := range map[string]Restarts{
		"unix:///run/containerd/containerd.sock": {Runtime: "containerd", Tool: "crictl"},
		"unix:///var/run/crio/crio.sock":         {Runtime: "crio", Tool: "crictl"},
		"unix:///var/run/cri-dockerd.sock":       {Runtime: "docker", Tool: "docker"},
		"unix:///var/run/dockershim.sock":        {Runtime: "docker", Tool: "docker"},
	} {
		t.Run(endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, "crictl", "docker")
				n.vanishes = true
				n.Put("/var/lib/kubelet/config.yaml", []byte("kind: KubeletConfiguration\nstaticPodPath: /etc/kubernetes/manifests\ncontainerRuntimeEndpoint: "+endpoint+"\n"))
				n.renewed("scheduler.conf", "pki/apiserver.crt")
				res := carryOut(t, restart("auto"), n)
				require.Equal(t, []string{"stop kube-apiserver-m1", "stop kube-scheduler-m1"}, n.did)
				out := res.Outputs.(Restarts)
				require.Equal(t, want.Runtime, out.Runtime)
				require.Equal(t, want.Tool, out.Tool)
				requireClean(t, restart("auto"), n)
			})
		})
	}
}

// TestRestartContainerLive leaves what reads a changed certificate again by
// itself alone, unless it does not.
func TestRestartContainerLive(t *testing.T) {
	for name, c := range map[string]struct {
		late time.Duration // until the API server reads its certificate again
		want []string
	}{
		"at once":        {0, []string{"stop kube-controller-manager-m1", "stop kube-scheduler-m1"}},
		"after a second": {time.Second, []string{"stop kube-controller-manager-m1", "stop kube-scheduler-m1"}},
		"never":          {time.Hour, []string{"stop kube-apiserver-m1", "stop kube-controller-manager-m1", "stop kube-scheduler-m1"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, ca := serving(t)
				f, _ := n.File("/etc/kubernetes/pki/apiserver.crt")
				old, began, stopped := der(t, f.Data), time.Now(), false
				n.Serve("172.30.0.11:6443", func() ([][]byte, error) {
					stopped = stopped || len(n.did) > 0 && n.did[0] == "stop kube-apiserver-m1"
					if f, _ := n.File("/etc/kubernetes/pki/apiserver.crt"); stopped || time.Since(began) >= c.late {
						return [][]byte{der(t, f.Data)}, nil
					}
					return [][]byte{old}, nil
				})
				now, err := n.Now(t.Context())
				require.NoError(t, err)
				n.renewed("controller-manager.conf", "scheduler.conf")
				for _, f := range []string{"apiserver", "etcd/server", "etcd/peer"} {
					n.Put("/etc/kubernetes/pki/"+f+".crt", issue(t, &ca, "m1", now, now.Add(day)).certPEM())
				}
				a := restart("auto")
				a.All = false
				carryOut(t, a, n)
				require.Equal(t, c.want, n.did)
				again := restart("auto")
				again.All = false
				requireClean(t, again, n)
			})
		})
	}
}

// kubeVIP is a static pod of somebody else's that reads admin.conf.
const kubeVIP = `apiVersion: v1
kind: Pod
metadata: {name: kube-vip, namespace: kube-system}
spec:
  containers:
  - {name: kube-vip, image: "ghcr.io/kube-vip/kube-vip:v0.9.0"}
  volumes:
  - {name: kubeconfig, hostPath: {path: /etc/kubernetes/admin.conf}}
`

// TestRestartContainerOthers tells of a load balancer on the master that holds
// the admin certificate from before, and restarts it only when it is named.
func TestRestartContainerOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "crictl")
		n.Put("/etc/kubernetes/admin.conf", []byte("x"))
		n.Put("/etc/kubernetes/manifests/kube-vip.yaml", []byte(kubeVIP))
		n.Advance(time.Minute)
		n.start("kube-vip", "kube-vip-m1", "kube-system", "0123456789abcdef0123456789abcdef")
		requireClean(t, restart("auto"), n)
		n.renewed("admin.conf")
		res, err := restart("auto").Check(t.Context(), n)
		require.NoError(t, err)
		require.Empty(t, res.Changes)
		require.Equal(t, []string{"the static pod kube-vip is older than /etc/kubernetes/admin.conf and is not restarted: name it in components when it reads that only once"}, res.Warnings)

		named := restart("auto")
		named.Components = append(named.Components, "kube-vip")
		require.Empty(t, carryOut(t, named, n).Warnings)
		require.Equal(t, []string{"stop kube-vip-m1"}, n.did)
		res, err = restart("auto").Check(t.Context(), n)
		require.NoError(t, err)
		require.Empty(t, res.Warnings)
	})
}

// TestRestartContainerGone is a container that kubelet never starts again: the
// step ends in time, says so, and the next component is not touched.
func TestRestartContainerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "crictl")
		n.renewed(everything...)
		n.dead = true
		a, began := restart("auto"), time.Now()
		err := a.Apply(t.Context(), n)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "etcd: context deadline exceeded: no new container")
		require.LessOrEqual(t, time.Since(began), a.Wait.Std()+30*time.Second)
		require.Equal(t, []string{"stop kube-apiserver-m1", "stop etcd-m1"}, n.did)
	})
}

// TestRestartContainerUnhealthy does not touch the next component.
func TestRestartContainerUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "crictl")
		n.renewed(everything...)
		n.sick["kube-apiserver"] = true
		err := restart("auto").Apply(t.Context(), n)
		require.ErrorContains(t, err, "kube-apiserver: context deadline exceeded: https://172.30.0.11:6443/readyz: status 500: not yet")
		require.Equal(t, []string{"stop kube-apiserver-m1", "stop etcd-m1"}, n.did)
	})
}

// TestRestartContainerKeepsQuorum stops no member that the others cannot do
// without, nor the API server that uses it.
func TestRestartContainerKeepsQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "crictl")
		n.renewed(everything...)
		connected := 1
		n.Answer("http://127.0.0.1:2381/metrics", func() (engine.Response, error) {
			body := "etcd_server_has_leader 1\n"
			for i := range 3 {
				body += fmt.Sprintf("etcd_network_known_peers{Local=\"0\",Remote=\"%d\"} 1\n", i)
			}
			for i := range connected {
				body += fmt.Sprintf("etcd_network_active_peers{Local=\"0\",Remote=\"%d\"} 1\n", i+1)
			}
			return engine.Response{Status: 200, Body: []byte(body)}, nil
		})
		const want = "this member is connected with 1 of the 2 others, and without it etcd needs 2 for its quorum"
		require.ErrorContains(t, restart("auto").Apply(t.Context(), n), want)
		require.Empty(t, n.did)
		wait := &WaitReady{Components: []string{"etcd"}}
		res, err := wait.Check(t.Context(), n)
		require.NoError(t, err)
		require.Contains(t, res.Changes[0].From, want)

		connected = 2
		requireClean(t, wait, n)
		carryOut(t, restart("auto"), n)
		require.Len(t, n.did, 4)
	})
}

// TestRestartContainerKeepsQuorumOfOld is the same with etcd 3.5, whose metrics do
// not tell how many members there are.
func TestRestartContainerKeepsQuorumOfOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "crictl")
		n.renewed(everything...)
		n.answers("http://127.0.0.1:2381/metrics", 200, "etcd_server_has_leader 1\netcd_network_active_peers{Local=\"0\",Remote=\"1\"} 1\n")
		n.etcdctl = map[string]string{"member list": listOfThree, "health --cluster": strings.Replace(healthOfThree, `"health":true,"took":"13.141621ms"`, `"health":false`, 1)}
		require.ErrorContains(t, restart("auto").Apply(t.Context(), n), "this member is connected with 1 of the 2 others, and without it etcd needs 2 for its quorum")
		require.Empty(t, n.did)

		n.etcdctl["health --cluster"] = healthOfThree
		carryOut(t, restart("auto"), n)
		require.Len(t, n.did, 4)
	})
}

// TestRestartContainerInterrupted moves the manifest back all the same, and a
// manifest that was left behind comes back in the next run.
func TestRestartContainerInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "crictl")
		n.renewed("scheduler.conf")
		ctx, cancel := context.WithCancel(t.Context())
		n.Handle("mv", func(c context.Context, cmd engine.Command) (engine.Output, error) {
			cancel()
			return n.move(c, cmd)
		})
		require.ErrorIs(t, restart("manifest").Apply(ctx, n), context.Canceled)
		require.Equal(t, []string{"out kube-scheduler", "in kube-scheduler"}, n.did)

		n.did, n.armed = nil, true
		_, err := n.move(t.Context(), engine.Command{Argv: []string{"mv", "/etc/kubernetes/manifests/etcd.yaml", "/var/lib/certbook/parked/earlier/etc@kubernetes@manifests@etcd.yaml"}})
		require.NoError(t, err)
		carryOut(t, restart("auto"), n)
		require.Equal(t, []string{"out etcd", "in etcd"}, n.did)
		_, ok := n.File("/etc/kubernetes/manifests/etcd.yaml")
		require.True(t, ok)

		// Whatever the file is called, it goes back to its name.
		etcd, _ := n.File("/etc/kubernetes/manifests/etcd.yaml")
		n.Remove("/etc/kubernetes/manifests/etcd.yaml")
		n.PutFile("/var/lib/certbook/parked/earlier/etc@kubernetes@manifests@10-etcd.yaml", etcd)
		carryOut(t, restart("auto"), n)
		_, ok = n.File("/etc/kubernetes/manifests/10-etcd.yaml")
		require.True(t, ok)
	})
}

// TestRestartContainerMoveFails puts the manifest back when the command that
// moved it away says that it failed, as it does when the connection breaks.
func TestRestartContainerMoveFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "crictl")
		n.renewed("scheduler.conf")
		lost := errors.New("connection lost")
		n.Handle("mv", func(ctx context.Context, cmd engine.Command) (engine.Output, error) {
			out, err := n.move(ctx, cmd)
			if err == nil && len(n.did) == 1 {
				err = lost
			}
			return out, err
		})
		require.ErrorIs(t, restart("manifest").Apply(t.Context(), n), lost)
		require.Equal(t, []string{"out kube-scheduler", "in kube-scheduler"}, n.did)
	})
}

func TestRestartContainerWithoutTool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		_, err := restart("container").Check(t.Context(), n)
		require.ErrorIs(t, err, errNoTool)
		require.ErrorContains(t, err, "containerd (containerRuntimeEndpoint), but there is no crictl or ctr; install it, or use method: manifest")
	})
	for range 10 { // the time that is up is no sign that it has gone
		synctest.Test(t, func(t *testing.T) {
			n := newNode(t)
			a := restart("manifest")
			a.Components = []string{"kube-scheduler"}
			n.Answer(healthURLs["kube-scheduler"], func() (engine.Response, error) { return engine.Response{Status: 200}, nil })
			require.ErrorContains(t, a.Apply(t.Context(), n), "kube-scheduler: context deadline exceeded: it still answers")
			require.Equal(t, []string{"out kube-scheduler", "in kube-scheduler"}, n.did)
		})
	}
}

// TestRestartContainerFollows restarts what has seen files that were taken
// back, and nothing else.
func TestRestartContainerFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "crictl")
		n.renewed("scheduler.conf")
		a := restart("auto")
		carryOut(t, a, n)
		n.renewed("scheduler.conf")
		a.Force, n.did = true, nil
		a.Follow()
		carryOut(t, a, n)
		require.Equal(t, []string{"stop kube-scheduler-m1"}, n.did)
	})
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		a := restart("manifest")
		a.Components = []string{"kube-scheduler"}
		carryOut(t, a, n)
		a.Follow()
		a.Components, n.did = []string{"kube-controller-manager", "kube-scheduler"}, nil
		carryOut(t, a, n)
		require.Equal(t, []string{"out kube-scheduler", "in kube-scheduler"}, n.did)
	})
}

func TestRestartContainerRefuses(t *testing.T) {
	require.ErrorContains(t, (&RestartContainer{Components: []string{"etcd*"}}).Validate(), `"etcd*" is not a container's name`)
	require.ErrorContains(t, (&RestartContainer{Components: []string{"etcd", "etcd"}}).Validate(), `"etcd" is listed twice`)
	require.NoError(t, restart("auto").Validate())
}
