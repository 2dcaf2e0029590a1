package schema

import (
	"maps"
	"slices"
	"strings"
	"unicode"
)

// Inventory is a YAML document that names the hosts, their groups,
// connections and variables.
type Inventory struct {
	Version     int              `yaml:"version" required:"true" doc:"the version of the language; 1"`
	Description string           `yaml:"description" doc:"what these hosts are, for people"`
	Vars        map[string]Value `yaml:"vars" doc:"variables of all hosts; they win over the playbook's and the overlay's"`
	SSH         SSH              `yaml:"ssh" doc:"connection settings of all hosts"`
	Secrets     Text             `yaml:"secrets" doc:"a file that age has encrypted, with passwords and secret variables; relative to the inventory"`
	Hosts       map[string]Host  `yaml:"hosts" required:"true" doc:"the hosts by name"`
	Groups      map[string]Group `yaml:"groups" doc:"the groups by name"`

	Source *Source
	Sealed *Source // the file that secrets names, encrypted; nil for none

	opened *Secrets // what is in it; nil when it was not opened
}

// Host is one machine.
type Host struct {
	Address    Text             `yaml:"address" doc:"the address or DNS name to connect to; the host's name when not given"`
	Connection string           `yaml:"connection" default:"ssh" enum:"ssh|local" doc:"how to reach it"`
	Root       string           `yaml:"root" doc:"with connection local: a root directory other than /, for tests and sandboxes"`
	SSH        SSH              `yaml:"ssh" doc:"connection settings of this host"`
	Vars       map[string]Value `yaml:"vars" doc:"variables of this host; they win over the groups'"`
}

// Group is a set of hosts, given by name or as other groups.
type Group struct {
	Hosts  []Text           `yaml:"hosts" doc:"hosts of the group"`
	Groups []Text           `yaml:"groups" doc:"groups that are part of the group"`
	SSH    SSH              `yaml:"ssh" doc:"connection settings of the group's hosts"`
	Vars   map[string]Value `yaml:"vars" doc:"variables of the group's hosts"`
}

// SSH are connection settings. What is not set is taken from the next wider
// level: host, group, group that contains the group, inventory, ~/.ssh/config,
// built-in default.
type SSH struct {
	User           Text      `yaml:"user" doc:"the login name"`
	Port           int       `yaml:"port" min:"1" max:"65535" doc:"the port of sshd"`
	Identity       []Text    `yaml:"identity" doc:"private key files"`
	Jump           []Text    `yaml:"jump" doc:"jump hosts on the way, as [user@]host[:port]"`
	KnownHosts     []Text    `yaml:"known_hosts" doc:"files with the hosts' public keys"`
	Sudo           string    `yaml:"sudo" enum:"auto|always|never" doc:"whether commands run through sudo; auto: when the login user is not root"`
	ConnectTimeout *Duration `yaml:"connect_timeout" doc:"how long connecting may take; 10s"`
	KeepAlive      *Duration `yaml:"keepalive" doc:"how often an idle connection is probed; 15s"`
	CommandTimeout *Duration `yaml:"command_timeout" doc:"how long one command may take; 10m"`
}

// ParseInventory reads an inventory. Its mistakes are returned all together.
func ParseInventory(src *Source) (*Inventory, error) {
	var d Decoder
	inv := &Inventory{Source: src}
	top, ok := Parse(src, &d.Diagnostics)
	if !ok {
		return nil, d.Err()
	}
	d.Decode(top, inv)
	checkVersion(&d, top, inv.Version)
	inv.check(&d, top)
	if err := d.Err(); err != nil {
		return nil, err
	}
	return inv, nil
}

// LocalInventory is the inventory of a run without one: this machine, called
// localhost, in the group masters. root is its root directory, "/" or "" for
// the machine's own.
func LocalInventory(root string) *Inventory {
	host := Host{Connection: "local"}
	if root != "/" {
		host.Root = root
	}
	return &Inventory{
		Version: 1,
		Source:  &Source{Name: "<this machine>"},
		Hosts:   map[string]Host{"localhost": host},
		Groups:  map[string]Group{"masters": {Hosts: []Text{{Value: "localhost"}}}},
	}
}

func (inv *Inventory) check(d *Decoder, top Value) {
	checkVars(d, top, "vars")
	if inv.Hosts != nil && len(inv.Hosts) == 0 {
		d.Add(top.keyPos("hosts"), "hosts is empty; an inventory names at least one host")
	}
	if _, ok := inv.Groups["all"]; ok {
		d.Add(top.keyPos("groups", "all"), "the group \"all\" always exists and holds every host; choose another name")
	}
	for _, name := range sorted(inv.Hosts) {
		checkVars(d, top, "hosts", name, "vars")
		checkName(d, "host", name, top.keyPos("hosts", name))
		if _, both := inv.Groups[name]; both {
			d.Add(top.keyPos("groups", name), "%q is the name of both a host and a group", name)
		}
		if h := inv.Hosts[name]; h.Root != "" && h.Connection != "local" {
			d.Add(top.keyPos("hosts", name, "root"), "host %q: root needs connection: local", name)
		}
	}
	hosts, groups := sorted(inv.Hosts), sorted(inv.Groups)
	for _, name := range groups {
		checkVars(d, top, "groups", name, "vars")
		checkName(d, "group", name, top.keyPos("groups", name))
		for _, h := range inv.Groups[name].Hosts {
			if _, ok := inv.Hosts[h.Value]; !ok {
				d.Add(h.Pos, "group %q: no host %q in hosts%s", name, h.Value, Suggest(h.Value, hosts))
			}
		}
		for _, child := range inv.Groups[name].Groups {
			if _, ok := inv.Groups[child.Value]; !ok {
				d.Add(child.Pos, "group %q: no group %q%s", name, child.Value, Suggest(child.Value, groups))
			}
		}
	}
	inv.cycles(&d.Diagnostics)
}

// checkName refuses names that --limit, hosts: and the log could not tell from
// something else.
func checkName(d *Decoder, kind, name string, p Pos) {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(",!/'\"", r)
	}) {
		d.Add(p, "%s name %q: spaces, commas, quotes, / and ! are not allowed", kind, name)
	}
	if kind == "host" && name == "all" {
		d.Add(p, "\"all\" stands for every host; choose another name")
	}
}

// VarsOf returns the inventory's variables of a host: those of all hosts, of
// its groups from the widest to the narrowest, and its own; the last wins.
func (inv *Inventory) VarsOf(host string) map[string]Value {
	vars := map[string]Value{}
	maps.Copy(vars, inv.Vars)
	for _, g := range inv.GroupsOf(host) {
		maps.Copy(vars, inv.Groups[g].Vars)
	}
	maps.Copy(vars, inv.Hosts[host].Vars)
	return vars
}

// SSHOf returns the connection settings of a host, level by level as VarsOf.
func (inv *Inventory) SSHOf(host string) SSH {
	s := inv.SSH
	for _, g := range inv.GroupsOf(host) {
		s = s.or(inv.Groups[g].SSH)
	}
	return s.or(inv.Hosts[host].SSH)
}

// or returns s with the settings that narrow has.
func (s SSH) or(narrow SSH) SSH {
	if narrow.User.Value != "" {
		s.User = narrow.User
	}
	if narrow.Port != 0 {
		s.Port = narrow.Port
	}
	if narrow.Identity != nil {
		s.Identity = narrow.Identity
	}
	if narrow.Jump != nil {
		s.Jump = narrow.Jump
	}
	if narrow.KnownHosts != nil {
		s.KnownHosts = narrow.KnownHosts
	}
	if narrow.Sudo != "" {
		s.Sudo = narrow.Sudo
	}
	if narrow.ConnectTimeout != nil {
		s.ConnectTimeout = narrow.ConnectTimeout
	}
	if narrow.KeepAlive != nil {
		s.KeepAlive = narrow.KeepAlive
	}
	if narrow.CommandTimeout != nil {
		s.CommandTimeout = narrow.CommandTimeout
	}
	return s
}

func sorted[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
