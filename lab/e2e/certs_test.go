//go:build e2e

package e2e_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"certbook/lab/cluster"
)

const pki = "/etc/kubernetes/pki/"

// ports are where a master serves which of its certificates.
var ports = map[string]string{"6443": "apiserver.crt", "2379": "etcd/server.crt", "2380": "etcd/peer.crt"}

// onDisk returns a certificate of a master.
func onDisk(t *testing.T, n cluster.Node, file string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(shell(t, n, "cat "+file)))
	require.NotNil(t, block, file)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

// served returns the certificate that a port serves.
func served(address string) (*x509.Certificate, error) {
	var leaf *x509.Certificate
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", address, &tls.Config{
		InsecureSkipVerify: true, // which certificate it is, is the question
		VerifyConnection: func(s tls.ConnectionState) error {
			leaf = s.PeerCertificates[0]
			return nil
		},
	})
	if conn != nil {
		conn.Close()
	}
	if leaf != nil {
		return leaf, nil
	}
	return nil, err
}

// requireServesDisk proves for every master that each port serves the
// certificate on disk.
func requireServesDisk(t *testing.T) {
	t.Helper()
	for _, n := range lab.Nodes {
		for port, file := range ports {
			if port != "6443" && len(lab.Etcd) > 0 {
				continue
			}
			disk := onDisk(t, n, pki+file)
			leaf, err := served(net.JoinHostPort(n.Address, port))
			require.NoError(t, err)
			require.Equal(t, sha256.Sum256(disk.Raw), sha256.Sum256(leaf.Raw), "%s:%s", n.Host, port)
		}
	}
}

// requireServed proves for every master that each port serves the certificate
// on disk, and that it is good and not the one it was before.
func requireServed(t *testing.T, before map[string]string) {
	t.Helper()
	requireServesDisk(t)
	for _, n := range lab.Nodes {
		for port, file := range ports {
			if port != "6443" && len(lab.Etcd) > 0 {
				continue
			}
			disk := onDisk(t, n, pki+file)
			require.NotEqual(t, before[n.Host+"/"+file], disk.SerialNumber.String(), "%s:%s", n.Host, port)
			require.Greater(t, time.Until(disk.NotAfter), 360*24*time.Hour)
		}
	}
}

// serials returns the serial numbers of what the masters serve.
func serials(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, n := range lab.Nodes {
		for _, file := range ports {
			all[n.Host+"/"+file] = onDisk(t, n, pki+file).SerialNumber.String()
		}
	}
	return all
}

// requireYounger proves that a component's process began after the file that
// it reads its client certificate from was written.
func requireYounger(t *testing.T, n cluster.Node, component, file string) {
	t.Helper()
	out := strings.Fields(shell(t, n, fmt.Sprintf(`stat -c %%Y "/proc/$(pgrep -f '^%s ' | head -1)" %s`, component, file)))
	require.Len(t, out, 2)
	began, err := strconv.ParseInt(out[0], 10, 64)
	require.NoError(t, err)
	written, err := strconv.ParseInt(out[1], 10, 64)
	require.NoError(t, err)
	require.GreaterOrEqual(t, began, written, "%s on %s is older than %s", component, n.Host, file)
}

// credentials are a client's, from a kubeconfig.
func credentials(t *testing.T, file string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var conf struct {
		Clusters []struct {
			Cluster struct {
				CA string `yaml:"certificate-authority-data"`
			} `yaml:"cluster"`
		} `yaml:"clusters"`
		Users []struct {
			User struct {
				Cert string `yaml:"client-certificate-data"`
				Key  string `yaml:"client-key-data"`
			} `yaml:"user"`
		} `yaml:"users"`
	}
	require.NoError(t, yaml.Unmarshal(text, &conf))
	decode := func(s string) []byte {
		b, err := base64.StdEncoding.DecodeString(s)
		require.NoError(t, err)
		return b
	}
	pair, err := tls.X509KeyPair(decode(conf.Users[0].User.Cert), decode(conf.Users[0].User.Key))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(decode(conf.Clusters[0].Cluster.CA)))
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}
}
