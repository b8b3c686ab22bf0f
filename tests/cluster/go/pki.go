// Which certificates and kubeconfigs does the test cluster need, and how are they made?
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	validFor  = 365 * 24 * time.Hour // longer than any test cluster lives
	clockSkew = time.Hour            // certificates begin this long ago: clocks of virtual machines jump

	// serviceAccountKeyBits: service account tokens are signed with RSA, as on most clusters.
	serviceAccountKeyBits = 2048
)

const pkiUsage = `usage: cluster-pki cluster DIR SERVER_URL SERVER_IP SERVICE_IP
       cluster-pki node CA_DIR DIR SERVER_URL NODE_NAME NODE_IP`

// An identity is one certificate's subject: a Kubernetes user (common name) in a group (organization).
type identity struct {
	file  string // base name of the files, without an ending
	user  string
	group string
	ips   []net.IP // of a server certificate; a client certificate has none
	names []string // DNS names of a server certificate
}

// An authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func runPKI(args []string) int {
	switch {
	case len(args) == 5 && args[0] == "cluster":
		if err := clusterPKI(args[1], args[2], args[3], args[4]); err != nil {
			return fail(fmt.Errorf("cluster-pki: cluster: %w", err))
		}
	case len(args) == 6 && args[0] == "node":
		if err := nodePKI(args[1], args[2], args[3], args[4], args[5]); err != nil {
			return fail(fmt.Errorf("cluster-pki: node %s: %w", args[4], err))
		}
	default:
		return fail(errors.New(pkiUsage))
	}
	return 0
}

// clusterPKI makes the authority and everything that the control plane and its user need.
func clusterPKI(dir, serverURL, serverIP, serviceIP string) error {
	server, err := parseIPs(serverIP, serviceIP, "127.0.0.1")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(dir)
	if err != nil {
		return err
	}
	if err := newServiceAccountKey(dir); err != nil {
		return err
	}
	serving := identity{file: "apiserver", user: "kube-apiserver", ips: server,
		names: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}}
	clients := []identity{
		{file: "apiserver-kubelet-client", user: "kube-apiserver-kubelet-client", group: "system:masters"},
		{file: "front-proxy-client", user: "front-proxy-client"},
	}
	for _, id := range append(clients, serving) {
		if _, _, err := ca.issue(dir, id); err != nil {
			return err
		}
	}
	users := []identity{
		{file: "admin", user: "admin", group: "system:masters"},
		{file: "controller-manager", user: "system:kube-controller-manager"},
		{file: "scheduler", user: "system:kube-scheduler"},
	}
	return ca.issueKubeconfigs(dir, serverURL, users)
}

// nodePKI makes what one node needs, signed by the cluster's authority.
func nodePKI(caDir, dir, serverURL, nodeName, nodeIP string) error {
	ips, err := parseIPs(nodeIP, "127.0.0.1")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := loadAuthority(caDir)
	if err != nil {
		return err
	}
	nodeUser := "system:node:" + nodeName
	serving := identity{file: "kubelet-server", user: nodeUser, group: "system:nodes", ips: ips, names: []string{nodeName, "localhost"}}
	if _, _, err := ca.issue(dir, serving); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), ca.pem, 0o644); err != nil {
		return err
	}
	return ca.issueKubeconfigs(dir, serverURL, []identity{
		{file: "kubelet", user: nodeUser, group: "system:nodes"},
		{file: "proxy", user: "system:kube-proxy"},
	})
}

func newAuthority(dir string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	form, err := template(identity{user: "mountpod-test-cluster"})
	if err != nil {
		return nil, err
	}
	form.IsCA = true
	form.BasicConstraintsValid = true
	form.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	form.ExtKeyUsage = nil
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	if _, _, err := writePair(dir, "ca", der, key); err != nil {
		return nil, err
	}
	return loadAuthority(dir)
}

func loadAuthority(dir string) (*authority, error) {
	certificatePEM, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, err
	}
	certificateBlock, _ := pem.Decode(certificatePEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certificateBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s: ca.crt or ca.key is not PEM", dir)
	}
	certificate, err := x509.ParseCertificate(certificateBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	return &authority{certificate: certificate, key: key, pem: certificatePEM}, nil
}

// issue writes FILE.crt and FILE.key and returns their content.
func (ca *authority) issue(dir string, id identity) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	form, err := template(id)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, form, ca.certificate, &private.PublicKey, ca.key)
	if err != nil {
		return nil, nil, err
	}
	return writePair(dir, id.file, der, private)
}

// issueKubeconfigs writes FILE.kubeconfig for each user, with certificate and key inside.
func (ca *authority) issueKubeconfigs(dir, serverURL string, users []identity) error {
	for _, user := range users {
		certificate, key, err := ca.issue(dir, user)
		if err != nil {
			return err
		}
		config := clientcmdapi.NewConfig()
		config.Clusters["mountpod-test"] = &clientcmdapi.Cluster{Server: serverURL, CertificateAuthorityData: ca.pem}
		config.AuthInfos[user.file] = &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
		config.Contexts["mountpod-test"] = &clientcmdapi.Context{Cluster: "mountpod-test", AuthInfo: user.file}
		config.CurrentContext = "mountpod-test"
		if err := clientcmd.WriteToFile(*config, filepath.Join(dir, user.file+".kubeconfig")); err != nil {
			return err
		}
	}
	return nil
}

// template is a certificate for a server if the identity has addresses, else for a client.
func template(id identity) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	subject := pkix.Name{CommonName: id.user}
	if id.group != "" {
		subject.Organization = []string{id.group}
	}
	usage := x509.ExtKeyUsageClientAuth
	if len(id.ips) > 0 {
		usage = x509.ExtKeyUsageServerAuth
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(validFor),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{usage},
		IPAddresses:  id.ips,
		DNSNames:     id.names,
	}, nil
}

// newServiceAccountKey writes sa.key and sa.pub, which sign and check service account tokens.
func newServiceAccountKey(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, serviceAccountKeyBits)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if _, err := writePEM(filepath.Join(dir, "sa.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), 0o600); err != nil {
		return err
	}
	_, err = writePEM(filepath.Join(dir, "sa.pub"), "PUBLIC KEY", public, 0o644)
	return err
}

func writePair(dir, file string, certificateDER []byte, private *ecdsa.PrivateKey) (certificate, key []byte, err error) {
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	if certificate, err = writePEM(filepath.Join(dir, file+".crt"), "CERTIFICATE", certificateDER, 0o644); err != nil {
		return nil, nil, err
	}
	key, err = writePEM(filepath.Join(dir, file+".key"), "EC PRIVATE KEY", keyDER, 0o600)
	return certificate, key, err
}

func writePEM(path, kind string, der []byte, mode os.FileMode) ([]byte, error) {
	encoded := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	return encoded, os.WriteFile(path, encoded, mode)
}

func parseIPs(texts ...string) ([]net.IP, error) {
	var ips []net.IP
	for _, text := range texts {
		ip := net.ParseIP(text)
		if ip == nil {
			return nil, fmt.Errorf("%q is not an IP address", text)
		}
		ips = append(ips, ip)
	}
	return ips, nil
}
