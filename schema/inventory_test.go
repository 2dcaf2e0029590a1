package schema_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"certbook/schema"

	"github.com/stretchr/testify/require"
)

func parseInventory(t *testing.T, text string) *schema.Inventory {
	t.Helper()
	inv, err := schema.ParseInventory(&schema.Source{Name: "hosts.yaml", Data: []byte(text)})
	require.NoError(t, err)
	return inv
}

// fleet sets one variable and one connection setting at every level; the name
// of each says which levels set it.
const fleet = `version: 1
vars: {inventory: i, wide: i, mid: i, narrow: i, host: i}
ssh: {user: inventory, port: 1, identity: [i], sudo: never, known_hosts: [i], connect_timeout: 1s, keepalive: 1s, command_timeout: 1s, jump: [i]}
hosts:
  m1:
    address: 10.0.0.1
    vars: {host: h}
    ssh: {command_timeout: 5s, jump: []}
  m2:
  m3: {connection: local, root: /srv/root}
  "10.0.0.4": {}
groups:
  wide:
    groups: [mid]
    vars: {wide: w, mid: w, narrow: w, host: w}
    ssh: {port: 2, identity: [w], sudo: always, known_hosts: [w], connect_timeout: 2s, keepalive: 2s, command_timeout: 2s, jump: [w]}
  mid:
    groups: [zz_narrow]
    hosts: [m2]
    vars: {mid: m, narrow: m, host: m}
    ssh: {identity: [m], sudo: auto, connect_timeout: 3s, keepalive: 3s, command_timeout: 3s}
  a_side: {hosts: [m1], vars: {narrow: a}}
  zz_narrow:
    hosts: [m1]
    vars: {narrow: n, host: n}
    ssh: {keepalive: 4s, command_timeout: 4s, jump: [n1, n2]}
  empty:
`

func TestInventoryLevels(t *testing.T) {
	inv := parseInventory(t, fleet)
	require.Equal(t, []string{"a_side", "wide", "mid", "zz_narrow"}, inv.GroupsOf("m1"))
	require.Equal(t, []string{"wide", "mid"}, inv.GroupsOf("m2"))
	require.Empty(t, inv.GroupsOf("m3"))
	for host, want := range map[string]string{
		"m1": "host=h inventory=i mid=m narrow=n wide=w",
		"m2": "host=m inventory=i mid=m narrow=m wide=w",
		"m3": "host=i inventory=i mid=i narrow=i wide=i",
	} {
		vars := inv.VarsOf(host)
		var got []string
		for _, name := range []string{"host", "inventory", "mid", "narrow", "wide"} {
			got = append(got, name+"="+vars[name].Node.Value)
		}
		require.Equal(t, want, strings.Join(got, " "), host)
		require.Len(t, vars, 5)
	}
	require.Equal(t, "hosts.yaml:7:18", inv.VarsOf("m1")["host"].Pos().String(), "where the winning value is written")
}

func TestInventorySSHLevels(t *testing.T) {
	inv := parseInventory(t, fleet)
	words := func(list []schema.Text) string {
		var w []string
		for _, x := range list {
			w = append(w, x.Value)
		}
		return strings.Join(w, ",")
	}
	for host, want := range map[string]string{
		"m1":       "inventory 2 m auto w 3s 4s 5s []",
		"m2":       "inventory 2 m auto w 3s 3s 3s [w]",
		"m3":       "inventory 1 i never i 1s 1s 1s [i]",
		"10.0.0.4": "inventory 1 i never i 1s 1s 1s [i]",
	} {
		s := inv.SSHOf(host)
		got := fmt.Sprintf("%s %d %s %s %s %s %s %s [%s]", s.User, s.Port, words(s.Identity), s.Sudo, words(s.KnownHosts),
			s.ConnectTimeout, s.KeepAlive, s.CommandTimeout, words(s.Jump))
		require.Equal(t, want, got, host)
	}
	require.Equal(t, "inventory", inv.SSH.User.Value)
	require.Equal(t, time.Second, inv.SSH.CommandTimeout.Std(), "the wider level is not changed")
}

func TestInventoryHosts(t *testing.T) {
	inv := parseInventory(t, fleet)
	require.Equal(t, "ssh", inv.Hosts["m2"].Connection, "a host with nothing behind its name has the defaults")
	require.Equal(t, "local", inv.Hosts["m3"].Connection)
	require.Equal(t, "/srv/root", inv.Hosts["m3"].Root)

	local := schema.LocalInventory("/")
	require.Equal(t, "", local.Hosts["localhost"].Root)
	require.Equal(t, "/x", schema.LocalInventory("/x").Hosts["localhost"].Root)
	members, ok := local.Members("masters")
	require.True(t, ok)
	require.Equal(t, []string{"localhost"}, members)
}

func TestSelect(t *testing.T) {
	inv := parseInventory(t, fleet)
	for names, want := range map[string]string{
		"all":                "10.0.0.4 m1 m2 m3",
		"m2":                 "m2",
		"wide":               "m1 m2",
		"zz_narrow":          "m1",
		"empty":              "",
		"!m1 all":            "10.0.0.4 m2 m3",
		"all !wide":          "10.0.0.4 m3",
		"wide m3 !zz_narrow": "m2 m3",
		"!m1":                "10.0.0.4 m2 m3",
		"m1 m1":              "m1",
	} {
		var hosts schema.Hosts
		for _, n := range strings.Fields(names) {
			hosts = append(hosts, schema.Text{Value: n})
		}
		var d schema.Diagnostics
		require.Equal(t, want, strings.Join(inv.Select(hosts, &d), " "), names)
		require.NoError(t, d.Err())
	}
	var d schema.Diagnostics
	require.Equal(t, []string{"m1"}, inv.Select(schema.Hosts{{Value: "m1"}, {Value: "zz_narow"}, {Value: "!m9"}, {Value: ""}}, &d))
	require.EqualError(t, d.Err(), `no host or group "zz_narow" in inventory hosts.yaml; did you mean "zz_narrow"?
no host or group "" in inventory hosts.yaml
no host or group "m9" in inventory hosts.yaml; did you mean "m1"?`)
}

func TestBrokenInventories(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []mistake
	}{
		{"no hosts", "version: 1\nhosts: {}\n", []mistake{{"2:1", "hosts is empty; an inventory names at least one host"}}},
		{"hosts not given", "version: 1\n", []mistake{{"1:1", `missing key "hosts"`}}},
		{"hosts empty", "version: 1\nhosts:\n", []mistake{{"2:7", `want a mapping, not empty`}}},
		{"hosts as a list", "version: 1\nhosts: [m1]\n", []mistake{{"2:8", `want a mapping, not a list`}}},
		{"a host twice", "version: 1\nhosts:\n  m1:\n  m1:\n", []mistake{{"4:3", `duplicate key "m1" (first on line 3)`}}},
		{"host as text", "version: 1\nhosts:\n  m1: 10.0.0.1\n", []mistake{{"3:7", `want a mapping, not text`}}},
		{"names", "version: 1\nhosts: {\"a b\": , \"!x\": , \"\": , all: , \"q'\": , \"n\\n\": , ok.example-1: }\ngroups: {all: , \"a,b\": , ok.example-1: }\n", []mistake{
			{"2:9", `host name "a b": spaces, commas, quotes, / and ! are not allowed`},
			{"2:18", `host name "!x": spaces, commas, quotes, / and ! are not allowed`},
			{"2:26", `host name "": spaces, commas, quotes, / and ! are not allowed`},
			{"2:32", `"all" stands for every host; choose another name`},
			{"2:39", `host name "q'": spaces, commas, quotes, / and ! are not allowed`},
			{"2:47", `host name "n\n": spaces, commas, quotes, / and ! are not allowed`},
			{"3:10", `the group "all" always exists and holds every host; choose another name`},
			{"3:10", `"all" is the name of both a host and a group`},
			{"3:17", `group name "a,b": spaces, commas, quotes, / and ! are not allowed`},
			{"3:26", `"ok.example-1" is the name of both a host and a group`}}},
		{"unknown members", "version: 1\nhosts: {master1: }\ngroups:\n  g:\n    hosts: [mastr1, zzz]\n    groups: [gg, unknown]\n", []mistake{
			{"5:13", `group "g": no host "mastr1" in hosts; did you mean "master1"?`},
			{"5:21", `group "g": no host "zzz" in hosts`},
			{"6:14", `group "g": no group "gg"; did you mean "g"?`},
			{"6:18", `group "g": no group "unknown"`}}},
		{"root without local", "version: 1\nhosts:\n  m1: {root: /x}\n", []mistake{{"3:8", `host "m1": root needs connection: local`}}},
		{"ports", "version: 1\nssh: {port: 0}\nhosts:\n  m1: {ssh: {port: 65536}}\ngroups:\n  g: {ssh: {port: -1}}\n", []mistake{
			{"2:13", `port: want 1 to 65535, not 0`}, {"4:20", `port: want 1 to 65535, not 65536`}, {"6:19", `port: want 1 to 65535, not -1`}}},
		{"enums", "version: 1\nhosts:\n  m1: {connection: locl, ssh: {sudo: \"yes\", connect_timeout: 5}}\n", []mistake{
			{"3:20", `connection: want one of ssh, local, not "locl"; did you mean "local"?`},
			{"3:38", `sudo: want one of auto, always, never, not "yes"`},
			{"3:62", `not a duration: "5" (write 90s, 5m, 12h, 30d or 2w)`}}},
		{"variables", "version: 1\nvars: {a-b: 1}\nhosts:\n  m1: {vars: {c-d: 1}}\ngroups:\n  g: {vars: {e-f: 1}}\n", []mistake{
			{"2:8", `variable name "a-b": want letters, digits and _, not beginning with a digit`},
			{"4:15", `variable name "c-d": want letters, digits and _, not beginning with a digit`},
			{"6:14", `variable name "e-f": want letters, digits and _, not beginning with a digit`}}},
		{"cycles", "version: 1\nhosts: {m1: }\ngroups:\n  a: {groups: [x, b]}\n  b: {groups: [c]}\n  c: {groups: [a]}\n  s: {groups: [s]}\n  x: {hosts: [m1]}\n", []mistake{
			{"6:16", `group "a" contains itself: a -> b -> c -> a`}, {"7:16", `group "s" contains itself: s -> s`}}},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, mistakes(t, inventory, c.text)) })
	}
}

// diamonds is an inventory whose groups each contain two that contain the
// same next two, depth times: 2^depth ways from the top to the bottom.
func diamonds(depth int, last string) string {
	var b strings.Builder
	b.WriteString("version: 1\nhosts: {m1: }\ngroups:\n")
	for i := range depth {
		for _, side := range []string{"l", "r"} {
			fmt.Fprintf(&b, "  %s%d: {groups: [l%d, r%d]}\n", side, i, i+1, i+1)
		}
	}
	fmt.Fprintf(&b, "  l%d: {hosts: [m1]}\n  r%d: {%s}\n", depth, depth, last)
	return b.String()
}

func TestDiamondsAreFast(t *testing.T) {
	type answer struct {
		members, groups []string
		err, circle     error
	}
	answers := make(chan answer, 1)
	go func() {
		var a answer
		inv, err := schema.ParseInventory(&schema.Source{Data: []byte(diamonds(40, "hosts: [m1]"))})
		if a.err = err; err == nil {
			a.members, _ = inv.Members("l0")
			a.groups = inv.GroupsOf("m1")
		}
		a.circle = inventory(&schema.Source{Data: []byte(diamonds(40, "groups: [r0]"))})
		answers <- a
	}()
	select {
	case a := <-answers:
		require.NoError(t, a.err)
		require.Equal(t, []string{"m1"}, a.members)
		require.Len(t, a.groups, 82)
		require.Equal(t, []string{"l0", "r0", "l1"}, a.groups[:3])
		require.Equal(t, []string{"l40", "r40"}, a.groups[80:])
		require.ErrorContains(t, a.circle, ` contains itself: `)
	case <-time.After(10 * time.Second):
		t.Fatal("the work grows with the number of ways through the groups")
	}
}

// A cycle cannot be parsed, but an inventory may come from elsewhere.
func TestCyclesEnd(t *testing.T) {
	inv := &schema.Inventory{
		Source: &schema.Source{Name: "-"},
		Hosts:  map[string]schema.Host{"m1": {}},
		Groups: map[string]schema.Group{
			"a": {Groups: []schema.Text{{Value: "b"}}, Hosts: []schema.Text{{Value: "m1"}}},
			"b": {Groups: []schema.Text{{Value: "a"}}},
		},
	}
	members, ok := inv.Members("b")
	require.True(t, ok)
	require.Equal(t, []string{"m1"}, members)
	require.ElementsMatch(t, []string{"a", "b"}, inv.GroupsOf("m1"))
}
