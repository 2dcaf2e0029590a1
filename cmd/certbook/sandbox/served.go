package sandbox

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
)

// Served is what one port of a master serves.
type Served struct {
	Master, Port string // "m1", "etcd client"
	Address      string
	Serial       string // of the certificate, hexadecimal
	Ends         string // its last day
}

// Served asks every port whose certificate kubeadm renews, by handshakes that
// have nothing to do with Certbook's own.
func (s *Sandbox) Served(ctx context.Context) ([]Served, error) {
	var list []Served
	for _, m := range s.masters {
		for _, p := range []struct {
			name string
			port int
		}{{"kube-apiserver", m.ports.apiserver}, {"etcd client", m.ports.etcd}, {"etcd peer", m.ports.peer}} {
			one := Served{Master: m.name, Port: p.name, Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port))}
			dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // the certificate is what is asked for
			conn, err := dialer.DialContext(ctx, "tcp", one.Address)
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", p.name, m.name, err)
			}
			leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
			one.Serial, one.Ends = leaf.SerialNumber.Text(16), leaf.NotAfter.UTC().Format("2006-01-02")
			_ = conn.Close() // nothing was sent
			list = append(list, one)
		}
	}
	return list, nil
}
