package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// EtcdMember is a member of etcd as the cluster itself knows it.
type EtcdMember struct {
	ID      string // hexadecimal, as etcdctl prints it
	Name    string // "" when it was added and has never started
	URLs    []string
	Learner bool // it has no vote
	Healthy bool // it has answered a read that needs the quorum
	Problem string
}

// String names the member for people.
func (m EtcdMember) String() string {
	switch {
	case m.Name == "":
		return m.ID + ", which was added and has never started,"
	case len(m.URLs) == 0:
		return m.Name
	}
	return m.Name + " (" + m.URLs[0] + ")"
}

// EtcdctlArgv returns a call of etcdctl in the container of a member: it shows
// the member's own certificate, which kubeadm issues for clients too.
func (m Manifest) EtcdctlArgv(endpoint string, words ...string) []string {
	argv := []string{"etcdctl", "--dial-timeout=3s", "--command-timeout=5s", "--write-out=json"}
	for _, f := range []struct{ option, flag string }{{"cacert", "trusted-ca-file"}, {"cert", "cert-file"}, {"key", "key-file"}} {
		if v := m.Args.Value(f.flag); v != "" {
			argv = append(argv, "--"+f.option+"="+v)
		}
	}
	argv = append(argv, "--endpoints="+endpoint)
	return append(argv, words...)
}

// ClientURL returns where the member's own host reaches it, "" when the manifest
// does not tell.
func (m Manifest) ClientURL() string {
	for _, raw := range m.Args.List("listen-client-urls") {
		if u := clientURL(raw); u != nil {
			u.Host = net.JoinHostPort(reachable(u.Hostname()), u.Port())
			return u.String()
		}
	}
	return ""
}

// maxMembers is the number of members above which a list is refused.
const maxMembers = 64

// ParseMembers reads etcdctl member list.
func ParseMembers(data []byte) ([]EtcdMember, error) {
	var list struct {
		Members []struct {
			ID         uint64   `json:"ID"`
			Name       string   `json:"name"`
			ClientURLs []string `json:"clientURLs"`
			IsLearner  bool     `json:"isLearner"`
		} `json:"members"`
	}
	if err := first("etcdctl member list", data, &list); err != nil {
		return nil, err
	}
	if len(list.Members) == 0 || len(list.Members) > maxMembers {
		return nil, fmt.Errorf("etcdctl member list: %d members, want 1 to %d", len(list.Members), maxMembers)
	}
	var out []EtcdMember
	for _, m := range list.Members {
		one := EtcdMember{ID: strconv.FormatUint(m.ID, 16), Name: clip(printable(m.Name)), Learner: m.IsLearner}
		for _, raw := range m.ClientURLs {
			if u := clientURL(raw); u != nil {
				one.URLs = append(one.URLs, u.String())
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// ParseEndpointHealth reads etcdctl endpoint health into members: one of a
// member's URLs must be healthy.
func ParseEndpointHealth(data []byte, members []EtcdMember) error {
	var list []struct {
		Endpoint string `json:"endpoint"`
		Health   bool   `json:"health"`
		Error    string `json:"error"`
	}
	if err := first("etcdctl endpoint health", data, &list); err != nil {
		return err
	}
	for i := range members {
		m := &members[i]
		for _, e := range list {
			switch {
			case !slices.Contains(m.URLs, e.Endpoint):
			case e.Health:
				m.Healthy = true
			default:
				m.Problem = clip(printable(e.Error))
			}
		}
	}
	return nil
}

// Others returns what members there are beside the one of a name, those that are
// healthy taken for connected. That there is a list shows that there is a leader.
func Others(members []EtcdMember, name string) Quorum {
	q := Quorum{HasLeader: true}
	for _, m := range members {
		if m.Learner {
			continue
		}
		q.Members++
		if m.Healthy && m.Name != name {
			q.Connected++
		}
	}
	return q
}

// first decodes the JSON document that data begins with; crictl appends what was
// said on standard error.
func first(what string, data []byte, into any) error {
	if len(data) > MaxFile {
		return fmt.Errorf("%s: too large: %d bytes", what, len(data))
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(into); err != nil {
		return fmt.Errorf("%s: not the expected JSON: %v", what, err)
	}
	return nil
}

// clientURL returns a URL that may stand in a list for etcdctl, else nil.
func clientURL(raw string) *url.URL {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || u.Hostname() == "" || strings.Contains(u.Host, ",") {
		return nil
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}
}
