"""HTTP: one pool of connections, with limits, resume, retries, redirects and credentials per origin.

``adpm.net.client.Client`` is the interface. Nothing here knows what a registry is. urllib3 is imported below this
package and nowhere else; nothing is imported here, so that ``url`` stays light.
"""
