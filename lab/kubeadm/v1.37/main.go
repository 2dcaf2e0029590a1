// Command kubeadm is the kubeadm of Kubernetes 1.37, with upstream's own main. It
// is a module of its own: the tests build it from published modules, and
// Certbook itself does not depend on Kubernetes.
package main

import (
	"k8s.io/kubernetes/cmd/kubeadm/app"
	utilerrors "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
)

func main() {
	utilerrors.HandleError(app.Run())
}
