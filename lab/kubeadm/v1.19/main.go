// Command kubeadm is the kubeadm of Kubernetes 1.19, with upstream's own main. It
// is a module of its own: the tests build it from published modules, and
// Certbook itself does not depend on Kubernetes.
package main

import (
	"k8s.io/kubernetes/cmd/kubeadm/app"
	kubeadmutil "k8s.io/kubernetes/cmd/kubeadm/app/util"
)

func main() {
	kubeadmutil.CheckErr(app.Run())
}
