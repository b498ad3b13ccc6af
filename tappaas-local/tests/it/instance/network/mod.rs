mod apart;
mod bridged;
mod foreign;
mod outside;
mod own;
mod private;
