// Package kube knows what kubeadm lays out on a host: which certificates and
// kubeconfigs there are and who signs them, what the static pods read and
// serve, which commands each version of kubeadm understands and what it
// answers, and how the container runtime is asked.
//
// Everything here is a pure function on bytes: no files are opened, no command
// is run, no clock is read. Whoever calls brings the content of the files and
// the time. Input comes from hosts and is bounded: files above MaxFile bytes,
// deep or aliased YAML, long certificate chains and floods of entries are
// refused by an error, never followed.
//
// No error of this package quotes a secret: of a kubeconfig it names entries and
// lines, of a YAML or PEM mistake its place.
package kube
