package actions

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func copyOf(src, dest string) *CopyFile {
	return &CopyFile{Src: src, Dest: dest, From: "host", To: "host", Create: true, Save: "/save"}
}

func TestCopyFile(t *testing.T) {
	h, at := rooted(t)
	put(t, at("/src"), "new", 0o644)
	put(t, at("/dest"), "old", 0o640)
	a := copyOf("/src", "/dest")
	require.Len(t, carryOut(t, a, h).Done, 1)
	requireClean(t, copyOf("/src", "/dest"), h)
	require.Equal(t, "new", text(t, at("/dest")))
	info, err := os.Stat(at("/dest"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode(), "dest keeps its mode")

	mode := copyOf("/src", "/dest")
	mode.Mode = "0600"
	carryOut(t, mode, h)
	require.NoError(t, mode.Revert(t.Context(), h))
	info, err = os.Stat(at("/dest"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode(), "a mode comes back")
	require.NoError(t, a.Revert(t.Context(), h))
	require.Equal(t, "old", text(t, at("/dest")))

	fresh := copyOf("/src", "/fresh")
	fresh.Create = false
	requireClean(t, fresh, h)
	fresh.Create = true
	carryOut(t, fresh, h)
	require.NoError(t, fresh.Revert(t.Context(), h))
	require.NoFileExists(t, at("/fresh"))

	_, err = copyOf("/none", "/dest").Check(t.Context(), h)
	require.EqualError(t, err, "src: no file /none on this host")
}

func TestCopyFileController(t *testing.T) {
	h, at := rooted(t)
	mine := filepath.Join(t.TempDir(), "mine")
	put(t, mine, "pushed", 0o600)
	push := copyOf(mine, "/dest")
	push.From = "controller"
	carryOut(t, push, h)
	require.Equal(t, "pushed", text(t, at("/dest")))

	put(t, at("/src"), "pulled", 0o644)
	pull := copyOf("/src", mine)
	pull.To = "controller"
	carryOut(t, pull, h)
	require.Equal(t, "pulled", text(t, mine))
	info, err := os.Stat(mine)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
}

// TestCopyFileMerge changes only the entry of this cluster's user, although
// another cluster's user has the same name.
func TestCopyFileMerge(t *testing.T) {
	needRoot(t)
	h, at := rooted(t)
	now := time.Now()
	ca, other := issue(t, nil, "kubernetes", now.Add(-day), now.Add(100*day)), issue(t, nil, "kubernetes", now.Add(-day), now.Add(100*day))
	old, fresh := issue(t, &ca, "kubernetes-admin", now.Add(-day), now.Add(day)), issue(t, &ca, "kubernetes-admin", now.Add(-day), now.Add(90*day))
	foreign := issue(t, &other, "kubernetes-admin", now.Add(-day), now.Add(day))
	put(t, at("/etc/kubernetes/admin.conf"), kubeconfig(t, ca, fresh, "kubernetes", "kubernetes-admin"), 0o600)
	put(t, at("/etc/kubernetes/pki/ca.crt"), string(ca.certPEM()), 0o644)
	before := merged(t, kubeconfig(t, ca, old, "prod", "admin-prod"), kubeconfig(t, other, foreign, "test", "admin-test"))
	put(t, at("/root/.kube/config"), before, 0o640)

	home := func() *CopyFile {
		a := copyOf("/etc/kubernetes/admin.conf", ".kube/config")
		a.Users, a.Merge = []string{"root"}, "kubeconfig"
		return a
	}
	a := home()
	carryOut(t, a, h)
	requireClean(t, home(), h)
	want := merged(t, kubeconfig(t, ca, fresh, "prod", "admin-prod"), kubeconfig(t, other, foreign, "test", "admin-test"))
	require.Equal(t, want, text(t, at("/root/.kube/config")))
	info, err := os.Stat(at("/root/.kube/config"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode())
	require.NoError(t, a.Revert(t.Context(), h))
	require.Equal(t, before, text(t, at("/root/.kube/config")))

	require.NoError(t, os.RemoveAll(at("/root/.kube")))
	passed := home()
	passed.Create = false
	requireClean(t, passed, h)
	carryOut(t, home(), h)
	require.Equal(t, text(t, at("/etc/kubernetes/admin.conf")), text(t, at("/root/.kube/config")))
	nobody := home()
	nobody.Users = []string{"no-such-user-here"}
	_, err = nobody.Check(t.Context(), h)
	require.ErrorContains(t, err, "users: ")
}

// merged puts the entries of a second kubeconfig behind those of the first,
// with a comment that must stay.
func merged(t *testing.T, one, two string) string {
	t.Helper()
	for _, list := range []string{"clusters", "contexts", "users"} {
		_, rest, ok := strings.Cut(two, list+":\n")
		require.True(t, ok)
		items := ""
		for line := range strings.Lines(rest) {
			if line[0] != '-' && line[0] != ' ' {
				break
			}
			items += line
		}
		one = strings.Replace(one, list+":\n", list+":\n# by hand\n"+items, 1)
	}
	return one
}

func TestCopyFileRefuses(t *testing.T) {
	for want, change := range map[string]func(*CopyFile){
		`mode: "9" is not a file mode`:       func(a *CopyFile) { a.Mode = "9" },
		"one of them must be host":           func(a *CopyFile) { a.From, a.To = "controller", "controller" },
		`src: "x" is not an absolute path`:   func(a *CopyFile) { a.Src = "x" },
		`dest: "x" is not an absolute path`:  func(a *CopyFile) { a.Dest = "x" },
		`dest: "/b" must be relative to`:     func(a *CopyFile) { a.Users = []string{"root"} },
		`dest: "a/../../b" must be relative`: func(a *CopyFile) { a.Users, a.Dest = []string{"root"}, "a/../../b" },
		"merge: works on the host only":      func(a *CopyFile) { a.To, a.Merge = "controller", "kubeconfig" },
		"users: are those of the host":       func(a *CopyFile) { a.To, a.Users, a.Dest = "controller", []string{"root"}, "x" },
		"user: needs merge: kubeconfig":      func(a *CopyFile) { a.User = "x" },
	} {
		a := copyOf("/a", "/b")
		change(a)
		require.ErrorContains(t, a.Validate(), want)
	}
	require.NoError(t, copyOf("/a", "/b").Validate())
}

// TestCopyFileLinksInHome is a user who lets the way to the kubeconfig lead to a
// file that is not theirs: root must not write there.
func TestCopyFileLinksInHome(t *testing.T) {
	for name, c := range map[string]struct{ link, to, want string }{
		"file":      {"/root/.kube/config", "../../etc/cron.d/job", "/etc/cron.d/job"},
		"directory": {"/root/.kube", "../etc/cron.d", "/etc/cron.d/config"},
		"dangling":  {"/root/.kube", "/nowhere/at/all", "/nowhere/at/all/config"},
		"inside":    {"/root/.kube/config", "../projects/config", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h, at := rooted(t)
			for _, f := range []string{"/etc/cron.d/job", "/etc/cron.d/config", "/root/projects/config"} {
				put(t, at(f), "old", 0o600)
			}
			put(t, at("/etc/kubernetes/admin.conf"), "new", 0o600)
			require.NoError(t, os.MkdirAll(filepath.Dir(at(c.link)), 0o700))
			require.NoError(t, os.Symlink(c.to, at(c.link)))
			a := copyOf("/etc/kubernetes/admin.conf", ".kube/config")
			a.Users = []string{"root"}
			if c.want == "" {
				if os.Geteuid() != 0 && os.Getenv("CI") == "" {
					t.Skip("the file is to belong to root: run this test as root")
				}
				carryOut(t, a, h)
				require.Equal(t, "new", text(t, at("/root/projects/config")))
				return
			}
			_, err := a.Check(t.Context(), h)
			require.ErrorContains(t, err, `users: /root/.kube/config leads out of the home of "root", to `)
			require.ErrorContains(t, err, c.want+"; remove the link")
			require.ErrorContains(t, a.Apply(t.Context(), h), "leads out of the home")
			require.Equal(t, "old", text(t, at("/etc/cron.d/job")))
			require.Equal(t, "old", text(t, at("/etc/cron.d/config")))
		})
	}
}
