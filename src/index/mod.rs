//! TEMPORARY
use crate::debian::RepoUrl; use crate::digest::Sha256; use std::sync::{Arc,RwLock}; use std::collections::HashMap; use std::io::Read; use std::path::PathBuf; use std::time::Duration;
#[derive(Clone,Copy,Debug,PartialEq,Eq)] pub enum Kind { Index, File }
#[derive(Clone,Copy,Debug)] pub struct Known { pub id: Sha256, pub length: Option<u64>, pub kind: Kind }
#[derive(Clone,Copy)] pub enum Learned { Passing }
#[derive(Clone,Copy)] pub enum Verify { Auto, Enforce, Off }
pub type Stored = Arc<dyn Fn(&Sha256)->Option<Box<dyn Read+Send>>+Send+Sync>;
pub struct IndexConfig { pub lists_dir: Option<PathBuf>, pub state_dir: Option<PathBuf>, pub keyrings: Vec<PathBuf>, pub verify: Verify, pub stored: Option<Stored> }
#[derive(Debug, thiserror::Error)] #[error("index")] pub struct IndexError;
#[derive(Clone, Default)] pub struct Index(Arc<RwLock<HashMap<String,Known>>>);
impl Index {
 pub fn open(_c: IndexConfig)->Result<Self,IndexError>{Ok(Self::default())}
 pub async fn run(&self, s: tokio_util::sync::CancellationToken){ s.cancelled().await }
 pub async fn refresh(&self){}
 pub async fn settled(&self,_d:Duration){}
 pub fn lookup(&self,u:&RepoUrl)->Option<Known>{ self.0.read().unwrap().get(u.as_str()).copied() }
 pub async fn learn_release(&self,u:&RepoUrl,body:bytes::Bytes,_l:Learned)->Result<(),IndexError>{
   let text=String::from_utf8_lossy(&body); let dir=u.split_last().0.to_owned(); let mut on=false;
   for l in text.lines(){ if l.starts_with("SHA256:"){on=true;continue} if !l.starts_with(' '){on=false;continue} if on { let v:Vec<_>=l.split_whitespace().collect(); if v.len()==3 { if let Ok(id)=v[0].parse::<Sha256>(){ let k=Known{id,length:v[1].parse().ok(),kind:Kind::Index}; let mut m=self.0.write().unwrap(); m.insert(format!("{}/{}",dir,v[2]),k); let d=v[2].rsplit_once('/').map_or("",|x|x.0); m.insert(format!("{}/{}/by-hash/SHA256/{}",dir,d,v[0]),k);} } } }
   eprintln!("learned release {} dir {:?}: {}", u, dir, self.0.read().unwrap().len());
   Ok(()) }
 pub fn wants(&self,_u:&RepoUrl)->bool{true}
 pub fn begin_reading(&self)->(){}
 pub async fn learn_index(&self,u:&RepoUrl,_id:Sha256,r:Box<dyn Read+Send>)->Result<(),IndexError>{
   let root=u.as_str().split("/dists/").next().unwrap().to_owned();
   let mut data=Vec::new(); let mut r=r; r.read_to_end(&mut data).ok();
   let mut out=Vec::new();
   if data.starts_with(b"\xfd7zXZ") { liblzma::read::XzDecoder::new(&data[..]).read_to_end(&mut out).ok(); } else if data.starts_with(&[0x1f,0x8b]) { flate2::read::GzDecoder::new(&data[..]).read_to_end(&mut out).ok(); } else { out=data }
   let text=String::from_utf8_lossy(&out); let (mut f,mut s,mut h)=(None,None,None); let mut n=0;
   for l in text.lines().chain([""]) { if let Some(x)=l.strip_prefix("Filename: "){f=Some(x.to_owned())} if let Some(x)=l.strip_prefix("Size: "){s=x.parse().ok()} if let Some(x)=l.strip_prefix("SHA256: "){h=x.parse::<Sha256>().ok()} if l.is_empty(){ if let (Some(f),Some(s),Some(h))=(f.take(),s.take(),h.take()){ n+=1; self.0.write().unwrap().insert(format!("{root}/{f}"),Known{id:h,length:Some(s),kind:Kind::File}); } } }
   eprintln!("learned index {} root {} n {}", u, root, n);
   Ok(()) }
}
