// Command floor is what a check of many hosts takes at least: it logs in to each
// over SSH, reads the certificates in one session, and prints when the first of
// them ends.
//
//	floor ADDRESS KEY KNOWN_HOSTS HOSTS AT_ONCE FILE...
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func main() {
	if err := check(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5], os.Args[6:]); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func check(address, key, known, hosts, atOnce string, files []string) error {
	data, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return err
	}
	trusted, err := knownhosts.New(known)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(hosts)
	if err != nil {
		return err
	}
	most, err := strconv.Atoi(atOnce)
	if err != nil {
		return err
	}
	config := &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: trusted,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519}, Timeout: time.Minute,
	}
	slots := make(chan struct{}, most)
	ends, errs := make([]time.Time, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			ends[i], errs[i] = first(address, config, files)
			<-slots
		})
	}
	all.Wait()
	for i := range n {
		if errs[i] != nil {
			return fmt.Errorf("host %d: %w", i, errs[i])
		}
		fmt.Println(i, ends[i])
	}
	return nil
}

// first returns when the first of a host's certificates ends.
func first(address string, config *ssh.ClientConfig, files []string) (time.Time, error) {
	var end time.Time
	conn, err := ssh.Dial("tcp", address, config)
	if err != nil {
		return end, err
	}
	defer conn.Close()
	session, err := conn.NewSession()
	if err != nil {
		return end, err
	}
	defer session.Close()
	out, err := session.Output("cat " + strings.Join(files, " "))
	if err != nil {
		return end, err
	}
	found := 0
	for block, rest := pem.Decode(out); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return end, err
		}
		if found++; end.IsZero() || cert.NotAfter.Before(end) {
			end = cert.NotAfter
		}
	}
	if found != len(files) {
		return end, fmt.Errorf("%d certificates in %d files", found, len(files))
	}
	return end, nil
}
